import pytest
import torch

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling import build_roi_heads
from d2lite.modeling.roi_heads import RROIHeads
from d2lite.modeling.roi_heads.rotated_fast_rcnn import (
    fast_rcnn_inference_rotated,
    fast_rcnn_inference_single_image_rotated,
)
from d2lite.structures import ImageList, Instances, RotatedBoxes

IMAGES = ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)])
SHAPES = {"f": ShapeSpec(channels=4, stride=4)}


def config():
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NAME = "RROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["f"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    box = cfg.MODEL.ROI_BOX_HEAD
    box.NAME, box.POOLER_TYPE, box.POOLER_RESOLUTION = "FastRCNNConvFCHead", "ROIAlignRotated", 2
    box.NUM_FC, box.FC_DIM = 1, 8
    box.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0, 1.0)
    return cfg


@pytest.fixture
def heads() -> RROIHeads:
    torch.manual_seed(0)
    return build_roi_heads(config(), SHAPES)


def proposals() -> Instances:
    boxes = RotatedBoxes([[10, 10, 8, 4, 30], [20, 20, 8, 8, -60], [10, 10, 8, 4, 120]])
    return Instances((32, 32), proposal_boxes=boxes, objectness_logits=torch.zeros(3))


def test_detections_pass_nms_by_class_and_rotated_overlap():
    boxes = torch.tensor([[10.0, 10, 12, 4, 30], [10.5, 10, 12, 4, 30], [10.0, 10, 12, 4, 120]])
    scores = torch.tensor([[0.9, 0.0, 0.1], [0.8, 0.3, 0.0], [0.7, 0.0, 0.3]])
    found, rows = fast_rcnn_inference_single_image_rotated(boxes, scores, (32, 32), 0.05, 0.5, -1)
    assert rows.tolist() == [0, 2, 1] and found.pred_classes.tolist() == [0, 0, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.3])
    assert isinstance(found.pred_boxes, RotatedBoxes)


def test_boxes_by_class_limits_and_rows_that_are_not_finite():
    boxes = torch.tensor([[10.0, 10, 8, 4, 30, 20.0, 20, 8, 4, 60], [float("nan")] * 10])
    scores = torch.tensor([[0.4, 0.5, 0.1], [0.9, 0.1, 0.0]])
    (found,), (rows,) = fast_rcnn_inference_rotated([boxes], [scores], [(32, 32)], 0.05, 0.5, 1)
    assert found.pred_classes.tolist() == [1] and rows.tolist() == [0]
    assert found.pred_boxes.tensor.tolist() == [[20, 20, 8, 4, 60]]


def test_no_proposals_give_no_detections():
    (found,), _ = fast_rcnn_inference_rotated(
        [torch.zeros(0, 10)], [torch.zeros(0, 3)], [(32, 32)], 0.05, 0.5, 10
    )
    assert len(found) == 0


def test_proposals_are_labeled_by_rotated_overlap(heads):
    gt = Instances(
        (32, 32), gt_boxes=RotatedBoxes([[10, 10, 8, 4, 30]]), gt_classes=torch.tensor([1])
    )
    (sampled,) = heads.label_and_sample_proposals([proposals()], [gt])
    # The first proposal and the object itself; across the object lies background (2).
    assert sorted(sampled.gt_classes.tolist()) == [1, 1, 2, 2]
    assert torch.equal(sampled.gt_boxes.tensor, gt.gt_boxes.tensor.expand(4, 5))


def test_training_gives_losses_and_gradients(heads):
    gt = Instances(
        (32, 32), gt_boxes=RotatedBoxes([[10, 10, 8, 4, 40]]), gt_classes=torch.tensor([0])
    )
    features = {"f": torch.randn(1, 4, 8, 8)}
    _, losses = heads(IMAGES, features, [proposals()], [gt])
    sum(losses.values()).backward()
    assert set(losses) == {"loss_cls", "loss_box_reg"}
    assert all(torch.isfinite(p.grad).all() for p in heads.parameters())


@torch.no_grad()
def test_inference_gives_rotated_boxes(heads):
    detections, _ = heads.eval()(IMAGES, {"f": torch.randn(1, 4, 8, 8)}, [proposals()])
    assert detections[0].pred_boxes.tensor.shape == (len(detections[0]), 5)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV2", "needs 'ROIAlignRotated'"),
        ("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", True, "TRAIN_ON_PRED_BOXES to False"),
        ("MODEL.MASK_ON", True, "no mask and no keypoint branch"),
    ],
)
def test_what_rotated_heads_cannot_do_is_refused(key, value, message):
    cfg = config()
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=message):
        build_roi_heads(cfg, SHAPES)
