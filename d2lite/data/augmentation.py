"""Build the augmentations of images from the INPUT keys of a config."""

from typing import Any

from d2lite.data import transforms as T
from d2lite.utils.registry import Registry, check_choice

AUGMENTATION_REGISTRY = Registry("AUGMENTATION", config_key="INPUT.AUGMENTATION")
AUGMENTATION_REGISTRY.__doc__ = """Functions that list the augmentations of a config.

A function takes `(cfg, is_train)` and returns augmentations and transforms, to be applied in order;
INPUT.AUGMENTATION names it. Training and test loaders and `DefaultPredictor` all use it.
"""


def build_augmentation(cfg: Any, is_train: bool) -> list[T.Augmentation | T.Transform]:
    """Return the augmentations that INPUT.AUGMENTATION names.

    Raises:
        KeyError: no function is registered under this name.
    """
    return AUGMENTATION_REGISTRY.get(cfg.INPUT.AUGMENTATION)(cfg, is_train)


@AUGMENTATION_REGISTRY.register()
def resize_and_flip(cfg: Any, is_train: bool) -> list[T.Augmentation]:
    """Resize the shorter side to INPUT.MIN_SIZE_*, and for training flip (INPUT.RANDOM_FLIP)."""
    if is_train:
        sizes, max_size = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN
        sample_style = cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    else:
        sizes, max_size, sample_style = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice"
    return [T.ResizeShortestEdge(sizes, max_size, sample_style), *flip(cfg, is_train)]


def flip(cfg: Any, is_train: bool) -> list[T.Augmentation]:
    """Return the flip of INPUT.RANDOM_FLIP for training, or nothing.

    Raises:
        ValueError: INPUT.RANDOM_FLIP is not "none", "horizontal" or "vertical".
    """
    direction = cfg.INPUT.RANDOM_FLIP
    check_choice("INPUT.RANDOM_FLIP", direction, ("none", "horizontal", "vertical"))
    if not is_train or direction == "none":
        return []
    return [T.RandomFlip(horizontal=direction == "horizontal", vertical=direction == "vertical")]


def resize_and_crop_categories(cfg: Any) -> list[T.Augmentation]:
    """Return the resizing of training images, and the crop of INPUT.CROP if it is enabled.

    This is for semantic segmentation: the crop comes after the resizing, and is drawn again, up to
    ten times, while one category covers more of it than INPUT.CROP.SINGLE_CATEGORY_MAX_AREA, a key
    that projects add.
    """
    inputs = cfg.INPUT
    augmentations: list[T.Augmentation] = [
        T.ResizeShortestEdge(
            inputs.MIN_SIZE_TRAIN, inputs.MAX_SIZE_TRAIN, inputs.MIN_SIZE_TRAIN_SAMPLING
        )
    ]
    if inputs.CROP.ENABLED:
        augmentations.append(
            T.RandomCrop_CategoryAreaConstraint(
                inputs.CROP.TYPE,
                inputs.CROP.SIZE,
                inputs.CROP.SINGLE_CATEGORY_MAX_AREA,
                cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            )
        )
    return augmentations
