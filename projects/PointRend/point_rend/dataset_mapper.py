"""Dataset mapper for training semantic models: INPUT.DATASET_MAPPER pointrend_sem_seg_mapper."""

from d2lite.config import CfgNode
from d2lite.data import DatasetMapper, transforms as T
from d2lite.data.augmentation import resize_and_crop_categories
from d2lite.data.dataset_mapper import DATASET_MAPPER_REGISTRY

from .color_augmentation import ColorAugSSDTransform


def build_sem_seg_train_aug(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    """Return the augmentations: resize, crop (INPUT.CROP), colors (INPUT.COLOR_AUG_SSD), flip."""
    augmentations: list[T.Augmentation | T.Transform] = [*resize_and_crop_categories(cfg)]
    if cfg.INPUT.COLOR_AUG_SSD:
        augmentations.append(ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT))
    return [*augmentations, T.RandomFlip()]


@DATASET_MAPPER_REGISTRY.register()
def pointrend_sem_seg_mapper(cfg: CfgNode, is_train: bool) -> DatasetMapper:
    """Return the default mapper; in training, it uses `build_sem_seg_train_aug`."""
    if not is_train:
        return DatasetMapper(cfg, is_train)
    return DatasetMapper(cfg, is_train, augmentations=build_sem_seg_train_aug(cfg))
