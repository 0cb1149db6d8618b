"""Point supervision: instance segmentation learned from boxes and a few labeled points."""

from .annotations import sample_point_annotation
from .config import add_point_sup_config
from .dataset_mapper import PointSupDatasetMapper, point_sup_mapper
from .mask_head import ImplicitPointRendPointSupHead, MaskRCNNConvUpsamplePointSupHead
from .point_utils import get_point_coords_from_point_annotation, get_point_coords_wrt_box
from .register_point_annotations import register_coco_instances_with_points

__all__ = [
    "ImplicitPointRendPointSupHead",
    "MaskRCNNConvUpsamplePointSupHead",
    "PointSupDatasetMapper",
    "add_point_sup_config",
    "get_point_coords_from_point_annotation",
    "get_point_coords_wrt_box",
    "point_sup_mapper",
    "register_coco_instances_with_points",
    "sample_point_annotation",
]
