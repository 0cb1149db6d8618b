"""Training settings derived from a folder of images and a few flags."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from d2lite.config import CfgNode
from d2lite.config.device import best_device
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.engine.classes import class_count_keys
from d2lite.engine.run_folder import last_run_folder, new_run_folder
from d2lite.model_zoo import get_checkpoint_url
from d2lite.utils import comm
from d2lite.utils.file_io import is_available

T = TypeVar("T")

# Models for boxes, masks and keypoints that have released weights.
_PRETRAINED = {
    "boxes": "COCO-Detection/faster_rcnn_R_50_FPN_3x",
    "masks": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x",
    "keypoints": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x",
}
_FROM_SCRATCH = "Misc/scratch_mask_rcnn_R_50_FPN_3x_gn"
_SMALL = "Base-R18-FPN-small"
_SMALL_SIZE = 320  # pixels of the long side: trains within minutes on two cores


@dataclass
class Choice:
    """A config and its changed settings, with the reason.

    Attributes:
        config: name in the zoo.
        reason: why this one, in one line.
        settings: by key.
        epochs: how often each image is used, at least.
        iterations: minimum length of the training; small datasets get more epochs to reach it.
    """

    config: str
    reason: str
    settings: dict[str, Any] = field(default_factory=dict)
    epochs: int = 12
    iterations: int = 600


def choose_model(kinds: set[str], device: str, weights: str | None) -> Choice:
    """Choose a config for a user's own dataset.

    Args:
        kinds: annotations of the dataset's objects: "boxes", and maybe "masks" or "keypoints".
        device: device for training.
        weights: initial weights: "coco", "" for random ones, a path or URL; None: choose here.
    """
    kind = next(k for k in ("keypoints", "masks", "boxes") if k in kinds or k == "boxes")
    name = _PRETRAINED[kind]
    is_cpu = torch.device(device).type == "cpu"
    if weights == "coco" or (weights is None and not is_cpu):
        url = get_checkpoint_url(name)
        if weights == "coco" or is_available(url):
            why = "its COCO weights are a good start for any photographs"
            return Choice(name, why, {"MODEL.WEIGHTS": url, **_heads(kind)}, 24, 1500)
    if is_cpu:
        settings = {
            "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 256,
            "MODEL.ROI_BOX_HEAD.FC_DIM": 512,
            "INPUT.MIN_SIZE_TRAIN": (_SMALL_SIZE,),
            "INPUT.MAX_SIZE_TRAIN": _SMALL_SIZE,
            "INPUT.MIN_SIZE_TEST": _SMALL_SIZE,
            "INPUT.MAX_SIZE_TEST": _SMALL_SIZE,
            "SOLVER.IMS_PER_BATCH": 4,
            **_heads(kind, small=True),
        }
        why = "there is no GPU: a ResNet-18 that learns from random weights within minutes"
        return Choice(_SMALL, why, settings)
    why = "COCO weights cannot be downloaded: from random weights, with GroupNorm, nothing frozen"
    if weights is not None:
        why = "from weights of your own or random ones, with GroupNorm, nothing frozen"
    return Choice(_FROM_SCRATCH, why, {"SOLVER.BASE_LR": 0.02, **_heads(kind),
                  "SOLVER.IMS_PER_BATCH": 16}, 72, 6000)  # fmt: skip


def _heads(kind: str, small: bool = False) -> dict[str, Any]:
    """Return the settings for the predictions of a model besides boxes."""
    settings: dict[str, Any] = {
        "MODEL.MASK_ON": kind == "masks",
        "MODEL.KEYPOINT_ON": kind == "keypoints",
        "TEST.BEST_METRIC": {"masks": "segm/AP", "keypoints": "keypoints/AP"}.get(kind, "bbox/AP"),
        "TEST.DRAW_IMAGES": 16,
        "SEED": 1,
    }
    if kind == "masks":
        settings["INPUT.MASK_FORMAT"] = "bitmask"  # takes polygons and RLE
        if small:
            settings |= {"MODEL.ROI_MASK_HEAD.NUM_CONV": 2, "MODEL.ROI_MASK_HEAD.CONV_DIM": 64}
    elif kind == "keypoints" and small:
        settings["MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS"] = (64,) * 4
    return settings


def fit_to_data(cfg: CfgNode, train: str, val: str) -> dict[str, Any]:
    """Return the settings that follow from the datasets: their names, class counts and
    keypoints."""
    settings: dict[str, Any] = {"DATASETS.TRAIN": (train,), "DATASETS.TEST": (val,)}
    settings |= dict.fromkeys(class_count_keys(cfg), -1)
    metadata = MetadataCatalog.get(train)
    names = metadata.get("keypoint_names")
    if cfg.MODEL.KEYPOINT_ON and names:
        settings["MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"] = len(names)
        if len(names) != 17:  # COCO's sigmas are for people
            settings["TEST.KEYPOINT_OKS_SIGMAS"] = [0.05] * len(names)
        if metadata.get("keypoint_flip_map") is None:
            settings["INPUT.RANDOM_FLIP"] = "none"
    return settings


def schedule_for(
    cfg: CfgNode, num_images: int, epochs: float | None, choice: Choice | None
) -> dict[str, Any]:
    """Return the settings of a schedule with the given number of epochs.

    Args:
        cfg: with the batch size; its steps are scaled with the number of iterations.
        num_images: size of the training set.
        epochs: number of epochs; None: the choice's.
        choice: None for a config that the user chose; its schedule keeps its form.
    """
    batch = cfg.SOLVER.IMS_PER_BATCH
    if epochs is None:
        assert choice is not None, "only a chosen config says how long to train"
        epochs = max(choice.epochs, math.ceil(choice.iterations * batch / num_images))
    iterations = max(math.ceil(epochs * num_images / batch), 1)
    share = iterations / cfg.SOLVER.MAX_ITER
    settings: dict[str, Any] = {
        "SOLVER.MAX_ITER": iterations,
        "SOLVER.STEPS": tuple(math.ceil(step * share) for step in cfg.SOLVER.STEPS),
        "SOLVER.WARMUP_ITERS": min(cfg.SOLVER.WARMUP_ITERS, math.ceil(iterations / 10)),
        "SOLVER.CHECKPOINT_PERIOD": min(cfg.SOLVER.CHECKPOINT_PERIOD, iterations),
    }
    if choice is not None:
        period = math.ceil(iterations / 4)
        settings |= {
            "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
            "SOLVER.STEPS": (),
            "SOLVER.CHECKPOINT_PERIOD": period,
            "TEST.EVAL_PERIOD": period,
        }
    return settings


def chosen_device(given: str | None) -> str:
    """Return the device to train on."""
    if given and given != "auto":
        return given
    return best_device()


def number_of_images(names: tuple[str, ...]) -> int:
    """Return the total number of images in the datasets."""
    return sum(len(DatasetCatalog.get(name)) for name in names)


def register_data(path: str, output_dir: str, **options: Any) -> Any:
    """Register the images and labels of a path, in each process of a job.

    Args:
        path: folder or file in any layout that `d2lite.data.layouts` knows.
        output_dir: folder in which the split is saved if the data has none.
        options: options of `register_folder`.
    """
    from d2lite.data.layouts import register_folder

    return on_main_first(lambda: register_folder(path, output_dir=output_dir, **options))


def on_main_first(function: Callable[[], T]) -> T:
    """Call a function in the main process, then in the others unless it failed there."""
    result, error = None, None
    if comm.is_main_process():
        try:
            result = function()
        except Exception as raised:
            error = raised
    comm.all_gather(None)
    if error is not None:
        raise error
    return result if comm.is_main_process() else function()


def run_folder_for(name: str, *, resume: bool) -> str:
    """Return the folder of this run, the same in all processes: a new one, or the latest one to
    resume."""
    folder = ""
    if comm.is_main_process():
        folder = last_run_folder(name) if resume else new_run_folder(name)
    return comm.all_gather(folder)[0]
