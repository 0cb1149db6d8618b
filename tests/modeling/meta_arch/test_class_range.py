"""A label outside of a model's classes is an error in every architecture, never a loss of zero."""

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling import FCOS, build_model
from d2lite.modeling.meta_arch.fcos import FCOSHead
from d2lite.modeling.meta_arch.inputs import check_classes
from d2lite.modeling.roi_heads.keypoint_head import KRCNNConvDeconvUpsampleHead
from d2lite.structures import Instances, Keypoints
from tests.modeling.tiny import PIXELS, TinyBackbone, image, target

K = 2


def from_config(architecture, **changes):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32]]
    for node in (cfg.MODEL.RPN, cfg.MODEL.RETINANET, cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.ROI_HEADS):
        node.IN_FEATURES = ["p3", "p4"]
    for node in (cfg.MODEL.RETINANET, cfg.MODEL.ROI_HEADS, cfg.MODEL.SEM_SEG_HEAD):
        node.NUM_CLASSES = K
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 8
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 2
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 32
    return build_model(cfg)


def fcos():
    head = FCOSHead(input_shape=[ShapeSpec(channels=8)] * 2, num_classes=K, conv_dims=[8])
    return FCOS(backbone=TinyBackbone(), head=head, num_classes=K, **PIXELS)


MODELS = {
    "GeneralizedRCNN": lambda: from_config("GeneralizedRCNN"),
    "RetinaNet": lambda: from_config("RetinaNet"),
    "FCOS": fcos,
    "PanopticFPN": lambda: from_config("PanopticFPN"),
}


def inputs(label, sem_seg=0):
    gt = target()
    gt.gt_classes = torch.tensor([label])
    labels = torch.zeros(48, 64, dtype=torch.int64)
    labels[0, 0] = sem_seg
    x = {"image": image(), "instances": gt, "sem_seg": labels, "file_name": "photo.jpg"}
    return [{**x, "instances": target()}, x]


@pytest.mark.parametrize("label", [K, K + 5, -1])
@pytest.mark.parametrize("name", MODELS)
def test_an_object_of_a_class_that_the_model_lacks(name, label):
    model = MODELS[name]().train()
    with pytest.raises(ValueError, match=rf"photo\.jpg has a label of class {label}, .* 0 to 1"):
        model(inputs(label))


@pytest.mark.parametrize("label", [K, -7])
@pytest.mark.parametrize("name", ["SemanticSegmentor", "PanopticFPN"])
def test_a_pixel_of_a_class_that_the_model_lacks(name, label):
    model = from_config(name).train()
    with pytest.raises(ValueError, match=rf"class {label}, .*label 255 \(MODEL\.SEM_SEG_HEAD"):
        model(inputs(1, label))


def test_ignored_pixels_and_images_without_objects_are_fine():
    assert set(from_config("SemanticSegmentor").train()(inputs(1, 255))) == {"loss_sem_seg"}
    empty = target()[torch.zeros(1, dtype=torch.bool)]
    check_classes([{"instances": empty}, {}], 0)


def test_another_number_of_keypoints_than_the_model_has():
    head = KRCNNConvDeconvUpsampleHead(
        ShapeSpec(channels=4), num_keypoints=17, conv_dims=[4]
    ).train()
    gt = Instances((48, 64), gt_keypoints=Keypoints(torch.zeros(1, 5, 3)))
    with pytest.raises(ValueError, match="the data have 5 keypoints, the model 17"):
        head(torch.zeros(1, 4, 14, 14), [gt])
