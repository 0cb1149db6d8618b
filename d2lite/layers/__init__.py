"""Layers and operators that models are made of."""

from d2lite.layers.aspp import ASPP
from d2lite.layers.batch_norm import (
    CycleBatchNormList,
    FrozenBatchNorm2d,
    LayerNorm,
    NaiveSyncBatchNorm,
    get_norm,
)
from d2lite.layers.blocks import CNNBlockBase, DepthwiseSeparableConv2d, conv_with_norm
from d2lite.layers.deform_conv import DeformConv, ModulatedDeformConv
from d2lite.layers.losses import (
    ciou_loss,
    diou_loss,
    giou_loss,
    sigmoid_focal_loss,
    smooth_l1_loss,
)
from d2lite.layers.mask_ops import paste_masks_in_image
from d2lite.layers.nms import batched_nms, batched_nms_rotated, nms, nms_rotated
from d2lite.layers.roi_align import ROIAlign, multilevel_roi_align, roi_align
from d2lite.layers.roi_align_rotated import ROIAlignRotated, roi_align_rotated
from d2lite.layers.rotated_boxes import pairwise_iou_rotated
from d2lite.layers.shape_spec import ShapeSpec
from d2lite.layers.sparse_grad_conv import SparseGradConv2d
from d2lite.layers.wrappers import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Linear,
    cat,
    check_if_dynamo_compiling,
    cross_entropy,
    empty_input_loss_func_wrapper,
    interpolate,
)

__all__ = [
    "ASPP",
    "BatchNorm2d",
    "CNNBlockBase",
    "Conv2d",
    "ConvTranspose2d",
    "CycleBatchNormList",
    "DeformConv",
    "DepthwiseSeparableConv2d",
    "FrozenBatchNorm2d",
    "LayerNorm",
    "Linear",
    "ModulatedDeformConv",
    "NaiveSyncBatchNorm",
    "ROIAlign",
    "ROIAlignRotated",
    "ShapeSpec",
    "SparseGradConv2d",
    "batched_nms",
    "batched_nms_rotated",
    "cat",
    "check_if_dynamo_compiling",
    "ciou_loss",
    "conv_with_norm",
    "cross_entropy",
    "diou_loss",
    "empty_input_loss_func_wrapper",
    "get_norm",
    "giou_loss",
    "interpolate",
    "multilevel_roi_align",
    "nms",
    "nms_rotated",
    "pairwise_iou_rotated",
    "paste_masks_in_image",
    "roi_align",
    "roi_align_rotated",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
]
