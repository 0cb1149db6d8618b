"""Choose the evaluator for a dataset."""

import itertools
import os
from collections.abc import Callable, Sequence

from d2lite.config import CfgNode
from d2lite.data.catalog import DatasetCatalog, MetadataCatalog, file_stem
from d2lite.evaluation.cityscapes_evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
)
from d2lite.evaluation.coco_evaluation import COCOEvaluator
from d2lite.evaluation.evaluator import DatasetEvaluator, DatasetEvaluators, Settings
from d2lite.evaluation.lvis_evaluation import LVISEvaluator
from d2lite.evaluation.panoptic_evaluation import COCOPanopticEvaluator
from d2lite.evaluation.pascal_voc_evaluation import PascalVOCDetectionEvaluator
from d2lite.evaluation.rotated_coco_evaluation import RotatedCOCOEvaluator
from d2lite.evaluation.sem_seg_evaluation import SemSegEvaluator
from d2lite.structures import BoxMode
from d2lite.utils.registry import did_you_mean

# Evaluators by the metadata's `evaluator_type`: classes, or functions of dataset name and settings.
EVALUATORS: dict[str, tuple[type[DatasetEvaluator] | Callable[..., DatasetEvaluator], ...]] = {
    "coco": (COCOEvaluator,),
    "rotated_coco": (RotatedCOCOEvaluator,),
    "lvis": (LVISEvaluator,),
    "pascal_voc": (PascalVOCDetectionEvaluator,),
    "sem_seg": (SemSegEvaluator,),
    "coco_panoptic_seg": (SemSegEvaluator, COCOEvaluator, COCOPanopticEvaluator),
    "cityscapes_instance": (CityscapesInstanceEvaluator,),
    "cityscapes_sem_seg": (CityscapesSemSegEvaluator,),
    "cityscapes_panoptic_seg": (
        CityscapesSemSegEvaluator,
        CityscapesInstanceEvaluator,
        COCOPanopticEvaluator,
    ),
}


def evaluator_for(
    dataset_name: str,
    cfg_or_tasks: CfgNode | Sequence[str] | None = None,
    output_dir: str | None = None,
) -> DatasetEvaluator:
    """Build the evaluator named by `evaluator_type` in the metadata of a dataset.

    Without `evaluator_type`, datasets registered by `register_pascal_voc` (whose metadata has
    `dirname`, `split` and `year`) are evaluated as Pascal VOC, others with `thing_classes` as COCO,
    and those with only `stuff_classes` as semantic segmentation. COCO's evaluator is the one for
    rotated boxes if the dataset has rotated boxes or the model predicts them.

    Args:
        dataset_name: name or URI.
        cfg_or_tasks: a config, which sets the output folder, the OKS sigmas and the number of
            detections that count per image (TEST.DETECTIONS_PER_IMAGE, if it is above the metric's
            own limit); or tasks such as ("bbox", "segm"), by default those that the predictions
            allow.
        output_dir: for predictions; by default `inference` in the config's OUTPUT_DIR, with a
            subfolder per test set if there are several.
    Raises:
        ValueError: the metadata does not name a known evaluator.
    """
    kind = _evaluator_type(dataset_name)
    settings, rotated_model = Settings(cfg_or_tasks, output_dir), False
    if isinstance(cfg_or_tasks, CfgNode):
        cfg = cfg_or_tasks
        folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        if len(cfg.DATASETS.TEST) > 1:
            folder = os.path.join(folder, file_stem(dataset_name))
        settings = Settings(
            None,
            output_dir or folder,
            cfg.TEST.KEYPOINT_OKS_SIGMAS,
            cfg.TEST.DETECTIONS_PER_IMAGE,
        )
        rotated_model = len(cfg.MODEL.RPN.BBOX_REG_WEIGHTS) == 5
    rotated = rotated_model
    # COCO files have upright boxes; a large one need not be read for this.
    if kind == "coco" and not rotated and not MetadataCatalog.get(dataset_name).get("json_file"):
        records = DatasetCatalog.get(dataset_name)
        annotations = itertools.chain.from_iterable(
            record.get("annotations") or () for record in records if isinstance(record, dict)
        )
        modes = (a.get("bbox_mode") for a in annotations if isinstance(a, dict))
        rotated = any(mode == BoxMode.XYWHA_ABS for mode in modes)
    if kind == "coco" and rotated:
        kind = "rotated_coco"
    makers = [getattr(entry, "from_settings", entry) for entry in EVALUATORS[kind]]
    evaluators = [make(dataset_name, settings) for make in makers]
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)


def _evaluator_type(dataset_name: str) -> str:
    metadata = MetadataCatalog.get(dataset_name)
    kind = metadata.get("evaluator_type")
    if kind is None and all(metadata.get(key) for key in ("dirname", "split", "year")):
        kind = "pascal_voc"
    if kind is None:
        if not metadata.get("thing_classes"):
            DatasetCatalog.get(dataset_name)  # some readers set the classes only when they load
        if metadata.get("thing_classes") is not None:
            kind = "coco"
        elif metadata.get("stuff_classes") is not None:
            kind = "sem_seg"
    if kind not in EVALUATORS:
        raise ValueError(
            f"dataset {dataset_name!r}: evaluator_type in its metadata is {kind!r}, which says "
            f"how it is evaluated.{did_you_mean(str(kind), EVALUATORS)} Set it by "
            "MetadataCatalog.get(NAME).set(evaluator_type=..., thing_classes=[...]) to one of "
            f"{', '.join(EVALUATORS)}, or override build_evaluator"
        )
    return kind
