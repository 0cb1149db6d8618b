"""PointRend: masks and semantic labels, refined at the points where they are uncertain."""

from . import roi_heads  # registers
from .color_augmentation import ColorAugSSDTransform
from .config import add_pointrend_config
from .dataset_mapper import build_sem_seg_train_aug, pointrend_sem_seg_mapper
from .mask_head import ImplicitPointRendMaskHead, PointRendMaskHead
from .point_head import ImplicitPointHead, StandardPointHead
from .semantic_seg import PointRendSemSegHead

# Its former name in detectron2, which released weights and older programs use.
ImplicitRCNNMaskHead = ImplicitPointRendMaskHead

__all__ = [
    "ColorAugSSDTransform",
    "ImplicitPointHead",
    "ImplicitPointRendMaskHead",
    "ImplicitRCNNMaskHead",
    "PointRendMaskHead",
    "PointRendSemSegHead",
    "StandardPointHead",
    "add_pointrend_config",
    "build_sem_seg_train_aug",
    "pointrend_sem_seg_mapper",
    "roi_heads",
]
