"""Region heads: what the branches give, and settings that do not fit."""

import pytest
import torch
from torch import nn

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling.box_regression import Box2BoxTransform
from d2lite.modeling.matcher import Matcher
from d2lite.modeling.poolers import ROIPooler
from d2lite.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    KRCNNConvDeconvUpsampleHead,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
    build_roi_heads,
)
from d2lite.structures import ImageList, Instances
from tests.modeling.roi_heads.tiny import SIZE, K, boxes, given_proposals, no_objects, target


def tiny_heads(**changes) -> StandardROIHeads:
    """Box, mask and keypoint branches on one feature "f" of 4 channels and stride 8."""
    torch.manual_seed(0)

    def pooler():
        return ROIPooler(4, [1 / 8], 2, "ROIAlignV2")

    shape = ShapeSpec(channels=4, height=4, width=4)
    settings = {
        "box_in_features": ["f"],
        "box_pooler": pooler(),
        "box_head": FastRCNNConvFCHead(shape, conv_dims=[], fc_dims=[8]),
        "box_predictor": FastRCNNOutputLayers(
            8, box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)), num_classes=K
        ),
        "mask_in_features": ["f"],
        "mask_pooler": pooler(),
        "mask_head": MaskRCNNConvUpsampleHead(shape, num_classes=K, conv_dims=[4]),
        "keypoint_in_features": ["f"],
        "keypoint_pooler": pooler(),
        "keypoint_head": KRCNNConvDeconvUpsampleHead(shape, num_keypoints=2, conv_dims=[4]),
        "num_classes": K,
        "batch_size_per_image": 8,
        "positive_fraction": 0.5,
        "proposal_matcher": Matcher([0.5], [0, 1]),
    }
    return StandardROIHeads(**{**settings, **changes})


def batch() -> tuple[ImageList, dict, list[Instances]]:
    images = ImageList(torch.zeros(2, 3, *SIZE), [SIZE, SIZE])
    proposals = [
        given_proposals((0, 0, 15, 16), (16, 16, 30, 30)),
        given_proposals((1, 1, 9, 9)),
    ]
    return images, {"f": torch.randn(2, 4, 4, 4)}, proposals


def test_training_gives_the_losses_of_all_branches():
    heads = tiny_heads()
    images, features, proposals = batch()
    sampled, losses = heads(images, features, proposals, [target(), no_objects()])
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask", "loss_keypoint"}
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in heads.parameters())
    assert all(x.has("gt_classes") for x in sampled)


def test_images_without_objects_train_every_parameter():
    heads = tiny_heads()
    images, features, proposals = batch()
    _, losses = heads(images, features, proposals, [no_objects(), no_objects()])
    sum(losses.values()).backward()
    # Distributed training waits for the gradient of every parameter.
    assert all(p.grad is not None for p in heads.parameters())


def test_inference_adds_masks_and_keypoints_to_detections():
    heads = tiny_heads().eval()
    images, features, proposals = batch()
    with torch.no_grad():
        detections, losses = heads(images, features, proposals)
    assert losses == {}
    for x in detections:
        assert x.pred_masks.shape == (len(x), 1, 8, 8)
        assert x.pred_keypoints.shape == (len(x), 2, 3)


def test_known_boxes_get_masks():
    heads = tiny_heads().eval()
    _, features, _ = batch()
    known = [
        Instances(SIZE, pred_boxes=boxes((0, 0, 9, 9)), pred_classes=torch.tensor([1])),
        Instances(SIZE, pred_boxes=boxes(), pred_classes=torch.zeros(0, dtype=torch.int64)),
    ]
    with torch.no_grad():
        found = heads.forward_with_given_boxes(features, known)
    assert [x.pred_masks.shape[0] for x in found] == [1, 0]
    with pytest.raises(ValueError, match="pred_boxes and pred_classes"):
        heads.forward_with_given_boxes(features, [Instances(SIZE)])


def test_masks_can_train_on_predicted_boxes():
    heads = tiny_heads(train_on_pred_boxes=True)
    images, features, proposals = batch()
    sampled, losses = heads(images, features, proposals, [target(), no_objects()])
    assert sampled[0].proposal_boxes.tensor.frac().abs().sum() > 0  # no longer whole numbers
    assert not sampled[0].proposal_boxes.tensor.requires_grad
    assert torch.isfinite(sum(losses.values()))


def test_a_head_without_pooler_takes_the_features_by_name():
    class Names(nn.Module):
        def forward(self, x, instances):
            return sorted(x)

    heads = tiny_heads(mask_head=Names(), mask_pooler=None).eval()
    assert heads._forward_mask({"f": torch.zeros(1), "g": torch.zeros(1)}, []) == ["f"]


def config(**changes):
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.merge_from_list([x for item in changes.items() for x in item])
    return cfg


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"MODEL.ROI_HEADS.IN_FEATURES": ["p9"]}, r"MODEL\.ROI_HEADS\.IN_FEATURES.*'p9'"),
        ({"MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3"]}, r"equal channels.*'p2': 4, 'p3': 8"),
    ],
)
def test_configs_that_do_not_fit(changes: dict, message: str):
    shapes = {"p2": ShapeSpec(channels=4, stride=4), "p3": ShapeSpec(channels=8, stride=8)}
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_roi_heads(config(**changes), shapes)


def test_unknown_heads_are_a_key_error_with_the_nearest_name():
    with pytest.raises(KeyError, match="StandardROIHeads"):
        build_roi_heads(config(**{"MODEL.ROI_HEADS.NAME": "StandardRoiHead"}), {})


def test_a_subclass_can_replace_one_branch():
    class NoBoxHead(StandardROIHeads):
        @classmethod
        def _init_box_head(cls, cfg, input_shape):
            return {
                "box_in_features": ["p2"],
                "box_pooler": None,
                "box_head": nn.Identity(),
                "box_predictor": nn.Identity(),
            }

    heads = NoBoxHead(config(), {"p2": ShapeSpec(channels=4, stride=4)})
    assert isinstance(heads.box_head, nn.Identity)
    assert heads.num_classes == 80


def test_branches_may_be_built_by_methods_of_the_object():
    class OldStyle(StandardROIHeads):
        def __init__(self, cfg, input_shape):
            super().__init__(cfg, input_shape)
            assert not self.mask_on
            self._init_mask_head(cfg, input_shape)

        def _init_mask_head(self, cfg, input_shape):
            self.mask_on = cfg.MODEL.MASK_ON
            self.mask_in_features = ["p2"]
            self.mask_pooler = None
            self.mask_head = nn.Identity()

    cfg = config(**{"MODEL.MASK_ON": True, "MODEL.ROI_HEADS.IN_FEATURES": ["p2"]})
    heads = OldStyle(cfg, {"p2": ShapeSpec(channels=4, stride=4)})
    assert heads.mask_on and isinstance(heads.mask_head, nn.Identity)
