"""RetinaNet on a tiny backbone; figures of detectron2 are in test_golden_other_models."""

import pytest
import torch
from torch import nn

from d2lite.config import get_cfg
from d2lite.layers import CycleBatchNormList, ShapeSpec
from d2lite.modeling import RetinaNet, build_model
from d2lite.modeling.meta_arch.retinanet import RetinaNetHead
from d2lite.structures import Boxes, Instances
from d2lite.utils.events import EventStorage
from tests.modeling.tiny import image, no_target, target


def config(**changes):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    cfg.MODEL.RETINANET.IN_FEATURES = ["p3", "p4"]
    cfg.MODEL.RETINANET.NUM_CLASSES = 3
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    for key, value in changes.items():
        cfg.MODEL.RETINANET[key] = value
    return cfg


@pytest.fixture
def model() -> RetinaNet:
    torch.manual_seed(0)
    return build_model(config())


def test_training_gives_losses_and_gradients_also_of_images_without_objects(model):
    losses = model(
        [
            {"image": image(), "instances": target()},
            {"image": image(32, 64), "instances": no_target(32, 64)},
        ]
    )
    assert set(losses) == {"loss_cls", "loss_box_reg"} and losses["loss_box_reg"] > 0
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_batch_without_objects_trains_the_classes_alone(model):
    losses = model([{"image": image(), "instances": no_target()}])
    sum(losses.values()).backward()
    assert losses["loss_box_reg"] == 0 and losses["loss_cls"] > 0
    assert (model.head.bbox_pred.weight.grad == 0).all()


def test_anchors_are_foreground_ignored_or_background_by_iou(model):
    anchors = [Boxes([[0, 0, 10, 10], [0, 0, 10, 4.5]]), Boxes([[20, 0, 30, 10], [0, 0, 10, 2]])]
    gt = Instances((48, 64), gt_boxes=Boxes([[0, 0, 10, 10]]), gt_classes=torch.tensor([2]))
    (labels,), (boxes,) = model.label_anchors(anchors, [gt])
    assert labels.tolist() == [2, -1, 3, 3]  # IoU 1, 0.45, 0, 0.2
    assert boxes[0].tolist() == [0, 0, 10, 10]


def test_detections_are_the_best_of_each_class_after_nms(model):
    model.test_nms_thresh, model.max_detections_per_image = 0.5, 2
    anchors = [Boxes([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])]
    scores = [torch.tensor([[0.9, 0.0, 0.0], [0.8, 0.7, 0.0], [0.04, 0.0, 0.6]])]
    got = model.inference_single_image(anchors, scores, [torch.zeros(3, 4)], (48, 64))
    # Of class 0 the second overlaps the first; of class 1 it is alone; class 2 comes third.
    assert got.pred_classes.tolist() == [0, 1]
    assert got.scores.tolist() == pytest.approx([0.9, 0.7])
    assert got.pred_boxes.tensor.tolist() == [[0, 0, 10, 10], [0, 0, 10, 9]]


def test_only_the_best_candidates_of_a_level_are_decoded(model):
    model.test_topk_candidates = 1
    anchors = [Boxes([[0, 0, 10, 10], [20, 20, 30, 30]]), Boxes([[0, 20, 9, 30]])]
    scores = [torch.tensor([[0.9, 0, 0], [0.8, 0, 0]]), torch.tensor([[0.3, 0, 0]])]
    deltas = [torch.zeros(2, 4), torch.zeros(1, 4)]
    got = model.inference_single_image(anchors, scores, deltas, (48, 64))
    assert got.scores.tolist() == pytest.approx([0.9, 0.3])


@torch.no_grad()
def test_detections_have_the_wanted_size_and_may_be_none(model):
    model.eval().test_score_thresh = 0.0
    (x,) = model([{"image": image(), "height": 96, "width": 32}])
    assert x["instances"].image_size == (96, 32) and len(x["instances"]) > 0
    model.test_score_thresh = 1.0
    (x,) = model([{"image": image()}])
    assert len(x["instances"]) == 0


def test_scores_before_training_are_the_prior(model):
    with torch.no_grad():
        logits, _ = model.head([torch.zeros(1, 8, 2, 2)] * 2)
    assert logits[0].sigmoid().mean().item() == pytest.approx(0.01)


def test_pictures_of_the_training_are_put_into_the_storage():
    cfg = config()
    cfg.VIS_PERIOD = 2
    model = build_model(cfg)
    with EventStorage() as storage:
        for _ in range(2):
            model([{"image": image(), "instances": target()}])
            storage.step()
    ((name, picture, iteration),) = storage._vis_data
    assert "Highest Scoring Results" in name
    assert (picture.shape, iteration) == ((3, 96, 64), 0)


@pytest.mark.parametrize("norm, kind", [("BN", CycleBatchNormList), ("GN", nn.GroupNorm)])
def test_batch_norms_keep_statistics_by_level(norm, kind):
    head = RetinaNetHead(
        input_shape=[ShapeSpec(channels=32)] * 2,
        num_classes=2,
        num_anchors=1,
        conv_dims=[32],
        norm=norm,
    )
    assert isinstance(head.cls_subnet[1], kind)
    head([torch.randn(2, 32, 4, 4), 100 * torch.randn(2, 32, 2, 2)])
    if norm == "BN":
        first, second = (bn.running_var.mean() for bn in head.cls_subnet[1])
        assert second > 10 * first


def test_shared_batch_norms_are_warned_of(caplog):
    RetinaNetHead(
        input_shape=[ShapeSpec(channels=4)],
        num_classes=1,
        num_anchors=1,
        conv_dims=[4],
        norm="FrozenBN",
    )
    assert "share the statistics of FrozenBN" in caplog.text


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="'l2'; use one of"):
        build_model(config(BBOX_REG_LOSS_TYPE="l2"))
    with pytest.raises(ValueError, match=r"RETINANET.IN_FEATURES asks for feature 'p7'"):
        build_model(config(IN_FEATURES=["p3", "p7"]))
    cfg = config()
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32, 48]]
    with pytest.raises(ValueError, match=r"ANCHOR_GENERATOR gives \[1, 2\]"):
        build_model(cfg)
