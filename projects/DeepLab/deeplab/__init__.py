"""DeepLabV3 and DeepLabV3+: semantic segmentation with atrous convolutions."""

from .build_solver import build_lr_scheduler
from .config import add_deeplab_config
from .dataset_mapper import build_sem_seg_train_aug, deeplab_sem_seg_mapper
from .loss import DeepLabCE
from .lr_scheduler import WarmupPolyLR
from .resnet import DeepLabStem, build_resnet_deeplab_backbone
from .semantic_seg import DeepLabV3Head, DeepLabV3PlusHead

__all__ = [
    "DeepLabCE",
    "DeepLabStem",
    "DeepLabV3Head",
    "DeepLabV3PlusHead",
    "WarmupPolyLR",
    "add_deeplab_config",
    "build_lr_scheduler",
    "build_resnet_deeplab_backbone",
    "build_sem_seg_train_aug",
    "deeplab_sem_seg_mapper",
]
