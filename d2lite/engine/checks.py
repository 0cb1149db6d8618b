"""Check settings before anything is built from them."""

import logging
import math
import os
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import torch
from PIL import ImageMode

from d2lite.config import CfgNode
from d2lite.config.keys import get_key
from d2lite.data import MetadataCatalog
from d2lite.data.ground_truth import load_ground_truth
from d2lite.engine.bad_steps import BadSteps
from d2lite.engine.classes import class_count_keys, dataset_classes
from d2lite.engine.from_checkpoint import weights_to_load
from d2lite.evaluation import evaluator_for, match_names
from d2lite.utils import comm
from d2lite.utils.registry import did_you_mean

logger = logging.getLogger(__name__)

# Minimum values of settings.
_MINIMA_IN_TRAINING: dict[str, float] = {
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.ACCUMULATE_STEPS": 1,
    "SOLVER.MAX_ITER": 1,
    "SOLVER.BASE_LR": 0,
    "SOLVER.BACKBONE_LR_FACTOR": 0,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.CHECKPOINT_KEEP": 0,
    "DATALOADER.REPEAT_THRESHOLD": 0,
    "ACTIVATION_PERIOD": 0,
    "SOLVER.CHECKPOINT_EPOCHS": 0,
    "TEST.EVAL_EPOCHS": 0,
    "TEST.LOSS_PERIOD": 0,
    "TEST.PATIENCE": 0,
}
_MINIMA: dict[str, float] = {
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TEST": 0,
    "INPUT.MAX_SIZE_TEST": 1,
    "INPUT.MAX_VALUE_16_BIT": 1,
    "INPUT.MAX_SIZE_TRAIN": 1,
    "TEST.DRAW_IMAGES": 0,
}


def check_evaluation_settings(cfg: CfgNode, resume: bool = False) -> None:
    """Check the settings of an evaluation without training; warn if the weights are random.

    Args:
        resume: whether weights come from OUTPUT_DIR, if it has any.
    Raises:
        ValueError: a number is too small, the device does not exist, the image format is unknown,
            or there is no test set.
    """
    _check_shared(cfg)
    if not cfg.DATASETS.TEST:
        raise ValueError(
            "DATASETS.TEST is empty, so there is nothing to evaluate on; set it to datasets such "
            "as \"('shapes_val',)\""
        )
    if not weights_to_load(cfg, resume):
        logger.warning(
            "MODEL.WEIGHTS is empty: a model with random weights is evaluated. Set MODEL.WEIGHTS "
            "to a checkpoint"
        )


def _check_shared(cfg: CfgNode) -> None:
    _check_finite(cfg)
    _check_minima(cfg, _MINIMA)
    name = cfg.MODEL.DEVICE
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(
            f"MODEL.DEVICE is {name!r}; use 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'"
        ) from None
    if device.type in _DEVICE_COUNTS:
        count = _DEVICE_COUNTS[device.type]()
        if (device.index or 0) >= count:
            raise ValueError(
                f"MODEL.DEVICE is {name!r}, but torch {torch.__version__} finds {count} "
                f"{device.type} devices here; set MODEL.DEVICE to auto or cpu"
            )
    image_format = cfg.INPUT.FORMAT
    if image_format not in ("BGR", "YUV-BT.601"):
        try:
            ImageMode.getmode(image_format)
        except KeyError:
            raise ValueError(
                f"INPUT.FORMAT is {image_format!r}; use 'BGR', 'RGB', 'L', 'YUV-BT.601' or a mode "
                "of Pillow"
            ) from None


def check_training_settings(cfg: CfgNode) -> None:
    """Check the settings of a training run.

    Raises:
        ValueError: a number is too small, the device does not exist, a name is unknown, or two
            settings contradict each other.
    """
    _check_shared(cfg)
    _check_minima(cfg, _MINIMA_IN_TRAINING)
    BadSteps().set_up_from(cfg)
    # REFERENCE_WORLD_SIZE: IMS_PER_BATCH is scaled from it to the number of processes.
    images = cfg.SOLVER.IMS_PER_BATCH // (cfg.SOLVER.REFERENCE_WORLD_SIZE or comm.get_world_size())
    num_parts = cfg.SOLVER.ACCUMULATE_STEPS
    if num_parts > max(images, 1):
        raise ValueError(
            f"SOLVER.ACCUMULATE_STEPS is {num_parts}, but each process has "
            f"{images} images per iteration (SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}), "
            "which cannot be divided into so many parts; IMS_PER_BATCH is the total over all parts"
        )
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    sizes = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    if not sizes or min(sizes) < 0:
        raise ValueError(
            f"INPUT.MIN_SIZE_TRAIN is {sizes}; expected one or more lengths in pixels, such as "
            "(640, 800)"
        )
    sampling = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    if sampling not in ("choice", "range"):
        raise ValueError(f"INPUT.MIN_SIZE_TRAIN_SAMPLING is {sampling!r}; use 'choice' or 'range'")
    if sampling == "range" and len(sizes) != 2:
        raise ValueError(
            f"INPUT.MIN_SIZE_TRAIN is {sizes}; INPUT.MIN_SIZE_TRAIN_SAMPLING 'range' needs the "
            "minimum and the maximum length"
        )
    crop = cfg.INPUT.CROP
    is_relative = crop.ENABLED and crop.TYPE.startswith("relative")
    if is_relative and not all(0 <= part <= 1 for part in crop.SIZE):
        raise ValueError(
            f"INPUT.CROP.SIZE is {list(crop.SIZE)}; with TYPE {crop.TYPE!r} it is a "
            "fraction of height and width, each from 0 to 1"
        )
    if os.path.isfile(cfg.OUTPUT_DIR):
        raise ValueError(f"OUTPUT_DIR is {cfg.OUTPUT_DIR!r}, which is a file; name a folder")
    if not all(cfg.MODEL.PIXEL_STD):
        raise ValueError(
            f"MODEL.PIXEL_STD is {cfg.MODEL.PIXEL_STD}; images are divided by it, so it cannot be 0"
        )
    if cfg.TEST.BEST_METRIC and not cfg.DATASETS.TEST:
        raise ValueError(
            f"TEST.BEST_METRIC is {cfg.TEST.BEST_METRIC!r}, but DATASETS.TEST is empty, so it is "
            "never evaluated; name a dataset there, or set TEST.BEST_METRIC ''"
        )
    if cfg.TEST.LOSS_PERIOD and not cfg.DATASETS.TEST:
        raise ValueError(
            f"TEST.LOSS_PERIOD is {cfg.TEST.LOSS_PERIOD}, but DATASETS.TEST is empty; name a "
            "dataset there, or set TEST.LOSS_PERIOD 0"
        )
    periodic = cfg.TEST.EVAL_PERIOD > 0 or cfg.TEST.EVAL_EPOCHS > 0
    if cfg.TEST.PATIENCE and not (cfg.TEST.BEST_METRIC and periodic):
        raise ValueError(
            f"TEST.PATIENCE is {cfg.TEST.PATIENCE}, which counts evaluations, but TEST.BEST_METRIC "
            f"is {cfg.TEST.BEST_METRIC!r} and TEST.EVAL_PERIOD {cfg.TEST.EVAL_PERIOD}; set them "
            "to a metric such as bbox/AP and to iterations, or set TEST.PATIENCE 0"
        )


def _check_finite(cfg: CfgNode, path: str = "") -> None:
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            _check_finite(value, f"{path}{name}.")
            continue
        for number in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{path}{name} is {value}; expected finite numbers")


def _check_minima(cfg: CfgNode, minima: dict[str, float]) -> None:
    for key, least in minima.items():
        value = get_key(cfg, key)
        if not value >= least:  # also true for nan
            raise ValueError(f"{key} is {value}; it must be {least} or more")


# Number of devices of each type on this machine; torch checks other types.
_DEVICE_COUNTS: dict[str, Callable[[], int]] = {
    "cuda": lambda: torch.cuda.device_count() if torch.cuda.is_available() else 0,
    "mps": lambda: int(torch.backends.mps.is_available()),
}


def check_test_classes(cfg: CfgNode) -> None:
    """Check that the classes of the training set and the test sets can be matched by name.

    Call it after the datasets have been loaded, when their classes are known.

    Raises:
        ValueError: they can't be matched, see `match_names`.
    """
    trained = dataset_classes(cfg.DATASETS.TRAIN)
    for name in cfg.DATASETS.TEST:
        for kind, tested in dataset_classes([name]).items():
            if kind in trained:
                match_names(trained[kind], tested, f"DATASETS.TEST {name}")


def check_keypoints(cfg: CfgNode) -> None:
    """Compare NUM_KEYPOINTS with the keypoints of the data and with the OKS sigmas.

    Raises:
        ValueError: they differ; the message names the key, both numbers, and the dataset.
    """
    # Other architectures may have their own keypoint heads.
    if not (cfg.MODEL.KEYPOINT_ON and "MODEL.ROI_HEADS.NUM_CLASSES" in class_count_keys(cfg)):
        return
    key, count = "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        names = MetadataCatalog.get(name).get("keypoint_names")
        if names is not None:
            found = len(names)
        else:  # as many as the first object that has any
            annotations = chain.from_iterable(
                record.get("annotations", ()) for record in load_ground_truth(name, sizes=False)
            )
            keypoints = (x["keypoints"] for x in annotations if "keypoints" in x)
            found = next((np.asarray(k).size // 3 for k in keypoints), None)
        if found not in (None, count):
            listed = f" ({', '.join(map(str, names[:6]))})" if names else ""
            raise ValueError(
                f"{key} is {count}, but dataset {name!r} has {found} keypoints{listed}; set {key} "
                f"to {found}"
            )
    sigmas = list(cfg.TEST.KEYPOINT_OKS_SIGMAS)
    if sigmas and (len(sigmas) != count or not min(sigmas) > 0):
        raise ValueError(
            f"TEST.KEYPOINT_OKS_SIGMAS is {sigmas}; expected {count} numbers above 0, one for each "
            f"keypoint ({key}), or an empty list for COCO's"
        )


def check_evaluators(
    cfg: CfgNode,
    build_evaluator: Callable[[CfgNode, str], Any] = lambda cfg, name: evaluator_for(name, cfg),
) -> None:
    """Build the evaluators of all test sets and run their checks, so that errors come before
    training.

    Args:
        build_evaluator: see DefaultTrainer; test sets for which it raises NotImplementedError are
            skipped.
    Raises:
        ValueError: an evaluator can't be built, or can't evaluate what the model predicts.
    """
    predicted = {"bbox": True, "segm": cfg.MODEL.MASK_ON, "keypoints": cfg.MODEL.KEYPOINT_ON}
    metrics: set[str] | None = set()
    for name in cfg.DATASETS.TEST:
        try:
            evaluator = build_evaluator(cfg, name)
        except NotImplementedError:
            continue
        check = getattr(evaluator, "check", lambda _: None)  # custom evaluators may lack it
        found = check([task for task, is_on in predicted.items() if is_on])
        if metrics is not None and found is not None:
            metrics |= {f"{name}/{m}" for m in found} if len(cfg.DATASETS.TEST) > 1 else found
        else:
            metrics = None
    best = cfg.TEST.BEST_METRIC
    if best and metrics is not None and best not in metrics:
        # Only a warning, since a custom evaluation may report it.
        logger.warning(
            "TEST.BEST_METRIC is %r, which no evaluator reports.%s They report %s",
            best,
            did_you_mean(best, metrics),
            ", ".join(sorted(m for m in metrics if "-" not in m)),
        )
