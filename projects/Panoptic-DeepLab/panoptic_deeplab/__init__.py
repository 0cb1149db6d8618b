"""Panoptic-DeepLab: panoptic segmentation from the bottom up."""

from .config import add_panoptic_deeplab_config
from .dataset_mapper import PanopticDeeplabDatasetMapper, panoptic_deeplab_mapper
from .panoptic_seg import (
    INS_EMBED_BRANCHES_REGISTRY,
    PanopticDeepLab,
    PanopticDeepLabInsEmbedHead,
    PanopticDeepLabSemSegHead,
    build_ins_embed_branch,
)
from .post_processing import (
    find_instance_center,
    get_instance_segmentation,
    get_panoptic_segmentation,
    group_pixels,
    merge_semantic_and_instance,
)
from .target_generator import PanopticDeepLabTargetGenerator

__all__ = [
    "INS_EMBED_BRANCHES_REGISTRY",
    "PanopticDeepLab",
    "PanopticDeepLabInsEmbedHead",
    "PanopticDeepLabSemSegHead",
    "PanopticDeepLabTargetGenerator",
    "PanopticDeeplabDatasetMapper",
    "add_panoptic_deeplab_config",
    "build_ins_embed_branch",
    "find_instance_center",
    "get_instance_segmentation",
    "get_panoptic_segmentation",
    "group_pixels",
    "merge_semantic_and_instance",
    "panoptic_deeplab_mapper",
]
