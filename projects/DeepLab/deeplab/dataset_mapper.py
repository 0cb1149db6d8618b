"""Dataset mapper for training DeepLab: INPUT.DATASET_MAPPER deeplab_sem_seg_mapper."""

from d2lite.config import CfgNode
from d2lite.data import DatasetMapper, transforms as T
from d2lite.data.augmentation import resize_and_crop_categories
from d2lite.data.dataset_mapper import DATASET_MAPPER_REGISTRY


def build_sem_seg_train_aug(cfg: CfgNode) -> list[T.Augmentation]:
    """Return the augmentations of training: resizing, then a crop, then a flip."""
    return [*resize_and_crop_categories(cfg), T.RandomFlip()]


@DATASET_MAPPER_REGISTRY.register()
def deeplab_sem_seg_mapper(cfg: CfgNode, is_train: bool) -> DatasetMapper:
    """Return the default mapper; in training, it uses `build_sem_seg_train_aug`."""
    if not is_train:
        return DatasetMapper(cfg, is_train)
    return DatasetMapper(cfg, is_train, augmentations=build_sem_seg_train_aug(cfg))
