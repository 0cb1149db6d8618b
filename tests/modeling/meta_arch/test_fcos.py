"""FCOS on a tiny backbone; figures of detectron2 are in test_golden_other_models."""

import pytest
import torch

from d2lite.layers import ShapeSpec
from d2lite.modeling import FCOS
from d2lite.modeling.meta_arch.fcos import FCOSHead
from d2lite.structures import Boxes, Instances
from tests.modeling.tiny import PIXELS, TinyBackbone, image, no_target, target


@pytest.fixture
def model() -> FCOS:
    torch.manual_seed(0)
    head = FCOSHead(input_shape=[ShapeSpec(channels=8)] * 2, conv_dims=[8], num_classes=3)
    return FCOS(backbone=TinyBackbone(), head=head, num_classes=3, **PIXELS)


def anchors_at(stride: float, *points: tuple[float, float]) -> Boxes:
    half = stride / 2
    return Boxes([[x - half, y - half, x + half, y + half] for x, y in points])


def label(model: FCOS, anchors: list[Boxes], boxes: list[list[float]]) -> list[int]:
    """Labels of the points; the i-th box has class i."""
    gt = Instances((200, 200), gt_boxes=Boxes(boxes), gt_classes=torch.arange(len(boxes)))
    (labels,), _ = model.label_anchors(anchors, [gt])
    return labels.tolist()


def test_points_near_the_center_of_an_object_are_foreground(model):
    # Strides 8 and 16; 20 x 20 pixels is of the first level. The radius is 12 pixels.
    small = anchors_at(8, (10, 10), (18, 10), (21, 10))
    assert label(model, [small, anchors_at(16, (10, 10))], [[0, 0, 20, 20]]) == [0, 0, 3, 3]
    wide = anchors_at(8, (20, 10), (33, 10))  # the second lies inside, 13 pixels off the center
    assert label(model, [wide, anchors_at(16, (160, 160))], [[0, 0, 40, 20]])[:2] == [0, 3]


def test_each_level_has_its_sizes(model):
    both = [anchors_at(8, (50, 50)), anchors_at(16, (50, 50))]
    # The farthest edge is 30, 100 pixels away: below 8 * 8, and above 4 * 16 = 64.
    assert label(model, both, [[20, 20, 80, 80]]) == [0, 3]
    assert label(model, both, [[-50, -50, 150, 150]]) == [3, 0]


def test_of_several_objects_the_smallest_counts(model):
    both = [anchors_at(8, (50, 50)), anchors_at(16, (199, 199))]
    assert label(model, both, [[20, 20, 80, 80], [30, 30, 70, 70], [25, 25, 75, 75]])[0] == 1


def test_centerness_by_hand(model):
    points = [anchors_at(8, (4, 4), (1, 2)), anchors_at(16, (8, 4))]
    targets = model.compute_ctrness_targets(points, [torch.tensor([[0.0, 0, 8, 8]]).expand(3, 4)])
    # At the center; sqrt(1/7 * 2/6); on the right edge.
    assert targets[0].tolist() == pytest.approx([1.0, (1 / 7 * 2 / 6) ** 0.5, 0.0])


def test_training_gives_losses_and_gradients(model):
    losses = model(
        [
            {"image": image(), "instances": target()},
            {"image": image(), "instances": no_target()},
        ]
    )
    assert set(losses) == {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"}
    assert all(loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_batch_without_objects_has_finite_gradients(model):
    losses = model([{"image": image(), "instances": no_target()}])
    sum(losses.values()).backward()
    assert losses["loss_fcos_loc"] == losses["loss_fcos_ctr"] == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@torch.no_grad()
def test_scores_are_the_geometric_mean_of_class_and_centerness(model):
    model.eval().test_score_thresh = 0.0
    model.head.ctrness.weight.zero_()
    model.head.cls_score.weight.zero_()
    model.head.ctrness.bias.fill_(-1.0986123)  # 0.25
    model.head.cls_score.bias.fill_(0.0)  # 0.5
    (x,) = model([{"image": image()}])
    assert x["instances"].scores.tolist() == pytest.approx([0.125**0.5] * len(x["instances"]))
    assert len(x["instances"]) > 0


def test_a_head_for_another_number_of_levels_is_refused(model):
    with pytest.raises(AssertionError, match="built for 2 levels, found 1"):
        model.head([torch.zeros(1, 8, 2, 2)])
