"""Region heads on the last stage of a ResNet, with parts that show what they get."""

import pytest
import torch
from torch import nn

from d2lite.config import CfgNode, get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling.box_regression import Box2BoxTransform
from d2lite.modeling.matcher import Matcher
from d2lite.modeling.poolers import ROIPooler
from d2lite.modeling.roi_heads import (
    FastRCNNOutputLayers,
    MaskRCNNConvUpsampleHead,
    Res5ROIHeads,
    build_roi_heads,
)
from d2lite.structures import ImageList, Instances
from tests.modeling.roi_heads.tiny import SIZE, K, boxes, given_proposals, no_objects, target

IMAGES = ImageList(torch.zeros(2, 3, *SIZE), [SIZE, SIZE])
RES4 = {"res4": ShapeSpec(channels=1024, stride=16)}


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


class Recorder(nn.Module):
    """A predictor that stores its inputs, and detects every second proposal as class 1."""

    def forward(self, x):
        self.inputs = x
        return x

    def losses(self, predictions, proposals):
        return {"loss": predictions.sum()}

    def inference(self, predictions, proposals):
        found = [
            Instances(SIZE, pred_boxes=x.proposal_boxes[::2], pred_classes=torch.ones(1))
            for x in proposals
        ]
        return found, None


class RecordingMaskHead(nn.Module):
    def forward(self, x, instances):
        self.regions, self.instances = x, instances
        return {"loss_mask": x.sum()} if self.training else instances


def tiny_heads(**changes) -> Res5ROIHeads:
    """Crops of 2 x 2 from a feature "f" of stride 8."""
    settings = {
        "in_features": ["f"],
        "pooler": ROIPooler(2, [1 / 8], 2, "ROIAlignV2"),
        "res5": [Double(), Double()],
        "box_predictor": Recorder(),
        "num_classes": K,
        "batch_size_per_image": 8,
        "positive_fraction": 0.5,
        "proposal_matcher": Matcher([0.5], [0, 1]),
    }
    return Res5ROIHeads(**{**settings, **changes})


def constant_feature() -> dict:
    """Two channels of constant values, so that crops inside of the image have these values."""
    return {"f": torch.tensor([3.0, 5.0]).view(1, 2, 1, 1).expand(2, 2, 4, 4), "g": None}


def proposals() -> list[Instances]:
    return [given_proposals((8, 8, 15, 16), (8, 8, 24, 24)), given_proposals((9, 9, 20, 20))]


def test_predictor_gets_the_mean_of_res5_of_each_crop():
    heads = tiny_heads().eval()
    heads(IMAGES, constant_feature(), proposals())
    torch.testing.assert_close(heads.box_predictor.inputs, torch.tensor([[12.0, 20.0]] * 3))


def test_masks_are_those_of_the_detected_boxes():
    heads = tiny_heads(mask_head=RecordingMaskHead()).eval()
    found, losses = heads(IMAGES, constant_feature(), proposals())
    assert not losses and found is heads.mask_head.instances
    assert [x.pred_boxes.tensor.tolist() for x in found] == [[[8, 8, 15, 16]], [[9, 9, 20, 20]]]
    expected = torch.tensor([12.0, 20.0]).view(1, 2, 1, 1).expand(2, 2, 2, 2)
    torch.testing.assert_close(heads.mask_head.regions, expected)


def test_masks_train_on_the_foreground_only():
    heads = tiny_heads(mask_head=RecordingMaskHead()).train()
    given = [given_proposals((0, 0, 15, 16), (16, 16, 30, 30)), given_proposals((1, 1, 9, 9))]
    found, losses = heads(IMAGES, constant_feature(), given, [target(), no_objects()])
    assert found == [] and set(losses) == {"loss", "loss_mask"}
    # The ground truth is a proposal too.
    assert len(heads.box_predictor.inputs) == 4 and len(heads.mask_head.regions) == 2
    assert [len(x) for x in heads.mask_head.instances] == [2, 0]


def test_every_parameter_trains():
    torch.manual_seed(0)
    mask_shape = ShapeSpec(channels=6, height=2, width=2)
    heads = tiny_heads(
        res5=nn.Conv2d(2, 6, 3, padding=1),
        box_predictor=FastRCNNOutputLayers(
            6, box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)), num_classes=K
        ),
        mask_head=MaskRCNNConvUpsampleHead(mask_shape, num_classes=K, conv_dims=[4]),
    )
    given = [given_proposals((0, 0, 15, 16), (16, 16, 30, 30)), given_proposals((1, 1, 9, 9))]
    features = {"f": torch.randn(2, 2, 4, 4)}
    _, losses = heads(IMAGES, features, given, [target(), no_objects()])
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask"}
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in heads.parameters())


def test_heads_without_masks_return_known_boxes_unchanged():
    given = [Instances(SIZE, pred_boxes=boxes((0, 0, 8, 8)))]
    heads = tiny_heads().eval()
    assert not heads.mask_on and not hasattr(heads, "mask_head")
    assert heads.forward_with_given_boxes(constant_feature(), given) is given


def config(**changes) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NAME = "Res5ROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
    cfg.merge_from_list([x for item in changes.items() for x in item])
    return cfg


@pytest.mark.parametrize("groups, width", [(1, 64), (32, 8)])
def test_stage_of_the_config_is_that_of_the_paper(groups: int, width: int):
    changes = {"MODEL.RESNETS.NUM_GROUPS": groups, "MODEL.RESNETS.WIDTH_PER_GROUP": width}
    with torch.device("meta"):
        heads = build_roi_heads(config(**changes), RES4)
    assert [block.stride for block in heads.res5] == [2, 1, 1]
    assert [block.out_channels for block in heads.res5] == [2048] * 3
    assert heads.res5[0].in_channels == 1024
    conv = heads.res5[0].conv2
    assert (conv.groups, conv.out_channels) == (groups, 8 * groups * width)
    assert heads.box_predictor.cls_score.in_features == 2048


@pytest.mark.parametrize("of_the_object", [True, False])
def test_res5_may_be_built_by_either_kind_of_method(of_the_object: bool):
    def build(self, cfg):
        blocks, out_channels = super(WithNorm, self)._build_res5_block(cfg)
        blocks.add_module("norm", nn.BatchNorm2d(out_channels))
        return blocks, out_channels

    class WithNorm(Res5ROIHeads):
        _build_res5_block = build if of_the_object else classmethod(build)

    with torch.device("meta"):
        heads = WithNorm(config(), RES4)
    assert heads.res5.norm.num_features == 2048


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"MODEL.ROI_HEADS.IN_FEATURES": ["res3", "res4"]}, r"crops one feature.*'res3', 'res4'"),
        ({"MODEL.ROI_HEADS.IN_FEATURES": ["p9"]}, r"MODEL\.ROI_HEADS\.IN_FEATURES.*'p9'"),
        ({"MODEL.KEYPOINT_ON": True}, "KEYPOINT_ON False"),
        (
            {"MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, False, True]},
            "DEFORM_ON_PER_STAGE to False",
        ),
    ],
)
def test_configs_that_do_not_fit(changes: dict, message: str):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_roi_heads(config(**changes), RES4)
