"""The evaluator that suits a data set."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from d2lite.config import CfgNode
from d2lite.data.catalog import MetadataCatalog, file_stem
from d2lite.utils.registry import did_you_mean

from .cityscapes_evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from .coco_evaluation import COCOEvaluator
from .coco_json import metadata_with_classes
from .evaluator import DatasetEvaluator, DatasetEvaluators
from .lvis_evaluation import LVISEvaluator
from .panoptic_evaluation import COCOPanopticEvaluator
from .pascal_voc_evaluation import PascalVOCDetectionEvaluator
from .rotated_coco_evaluation import RotatedCOCOEvaluator
from .sem_seg_evaluation import SemSegEvaluator

# By `evaluator_type` of the metadata: functions of (data set, tasks, output folder, sigmas).
_Maker = Callable[[str, Any, str | None, Sequence[float]], DatasetEvaluator]


def _coco(kind, name: str, tasks, output_dir: str | None, sigmas) -> DatasetEvaluator:
    return kind(name, tasks, output_dir=output_dir, kpt_oks_sigmas=tuple(sigmas))


def _with_output(kind, name: str, tasks, output_dir: str | None, sigmas) -> DatasetEvaluator:
    return kind(name, output_dir=output_dir)


def _plain(kind, name: str, tasks, output_dir: str | None, sigmas) -> DatasetEvaluator:
    return kind(name)


def _lvis(name: str, tasks, output_dir: str | None, sigmas) -> DatasetEvaluator:
    return LVISEvaluator(name, tasks, output_dir=output_dir)


_COCO = partial(_coco, COCOEvaluator)
_SEM_SEG = partial(_with_output, SemSegEvaluator)
_PANOPTIC = partial(_with_output, COCOPanopticEvaluator)
_CITY_INSTANCES = partial(_plain, CityscapesInstanceEvaluator)
_CITY_SEM_SEG = partial(_plain, CityscapesSemSegEvaluator)

EVALUATORS: dict[str, tuple[_Maker, ...]] = {
    "coco": (_COCO,),
    "rotated_coco": (partial(_coco, RotatedCOCOEvaluator),),
    "pascal_voc": (partial(_plain, PascalVOCDetectionEvaluator),),
    "lvis": (_lvis,),
    "sem_seg": (_SEM_SEG,),
    "coco_panoptic_seg": (_SEM_SEG, _COCO, _PANOPTIC),
    "cityscapes_instance": (_CITY_INSTANCES,),
    "cityscapes_sem_seg": (_CITY_SEM_SEG,),
    "cityscapes_panoptic_seg": (_CITY_SEM_SEG, _CITY_INSTANCES, _PANOPTIC),
}


def evaluator_for(
    dataset_name: str,
    cfg_or_tasks: CfgNode | Sequence[str] | None = None,
    output_dir: str | None = None,
) -> DatasetEvaluator:
    """Make the evaluator that `evaluator_type` of a data set's metadata names.

    A data set without `evaluator_type` is evaluated as Pascal VOC where `register_pascal_voc` has
    registered it (`dirname`, `split` and `year` are in its metadata), else as COCO if it has
    `thing_classes`.

    Args:
        dataset_name: name or URI.
        cfg_or_tasks: a config, which gives the OKS sigmas and the output folder; or tasks such as
            ("bbox", "segm"), by default those that the predictions allow.
        output_dir: for predictions; default: `inference` in the config's OUTPUT_DIR, and in it a
            folder for each of several test sets.
    Raises:
        ValueError: the metadata name no known evaluator.
    """
    tasks, sigmas = cfg_or_tasks, ()
    if isinstance(cfg_or_tasks, CfgNode):
        tasks, sigmas = None, cfg_or_tasks.TEST.KEYPOINT_OKS_SIGMAS
        output_dir = output_dir or _output_folder(cfg_or_tasks, dataset_name)
    makers = EVALUATORS[_evaluator_type(dataset_name)]
    evaluators = [make(dataset_name, tasks, output_dir, sigmas) for make in makers]
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)


def _output_folder(cfg: CfgNode, dataset_name: str) -> str:
    folder = os.path.join(cfg.OUTPUT_DIR, "inference")
    several = len(cfg.DATASETS.TEST) > 1
    return os.path.join(folder, file_stem(dataset_name)) if several else folder


def _evaluator_type(dataset_name: str) -> str:
    metadata = MetadataCatalog.get(dataset_name)
    kind = metadata.get("evaluator_type")
    if kind is None and all(metadata.get(key) for key in ("dirname", "split", "year")):
        kind = "pascal_voc"
    if kind is None and metadata_with_classes(dataset_name).get("thing_classes") is not None:
        kind = "coco"
    if kind not in EVALUATORS:
        raise ValueError(
            f"data set {dataset_name!r}: evaluator_type in its metadata is {kind!r}."
            f"{did_you_mean(str(kind), EVALUATORS)} Set it to one of {', '.join(EVALUATORS)}, or "
            "override build_evaluator"
        )
    return kind
