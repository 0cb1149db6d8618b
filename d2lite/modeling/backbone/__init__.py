"""Backbones: networks from images to feature maps."""

from d2lite.modeling.backbone.backbone import Backbone
from d2lite.modeling.backbone.build import BACKBONE_REGISTRY, build_backbone
from d2lite.modeling.backbone.fpn import FPN
from d2lite.modeling.backbone.mvit import MViT
from d2lite.modeling.backbone.regnet import RegNet
from d2lite.modeling.backbone.resnet import (
    BasicStem,
    BottleneckBlock,
    ResNet,
    ResNetBlockBase,
    build_resnet_backbone,
)
from d2lite.modeling.backbone.swin import SwinTransformer
from d2lite.modeling.backbone.timm import TimmBackbone
from d2lite.modeling.backbone.vit import SimpleFeaturePyramid, ViT, get_vit_lr_decay_rate

__all__ = [
    "BACKBONE_REGISTRY",
    "FPN",
    "Backbone",
    "BasicStem",
    "BottleneckBlock",
    "MViT",
    "RegNet",
    "ResNet",
    "ResNetBlockBase",
    "SimpleFeaturePyramid",
    "SwinTransformer",
    "TimmBackbone",
    "ViT",
    "build_backbone",
    "build_resnet_backbone",
    "get_vit_lr_decay_rate",
]
