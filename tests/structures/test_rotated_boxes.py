import pytest
import torch

from d2lite.structures import RotatedBoxes, pairwise_iou, pairwise_iou_rotated
from tests.golden import load_case


@pytest.fixture(scope="module")
def case():
    return load_case("boxes.rotated")


def test_iou_equals_detectron2(case):
    boxes1, boxes2 = RotatedBoxes(case.tensor("boxes1")), RotatedBoxes(case.tensor("boxes2"))
    case.check("iou", pairwise_iou_rotated(boxes1, boxes2))
    case.check("iou", pairwise_iou(boxes1, boxes2))


def test_methods_equal_detectron2(case):
    boxes, size = RotatedBoxes(case.tensor("boxes1")), case.params["image_size"]
    case.check("area", boxes.area())
    case.check("nonempty", boxes.nonempty(case.params["nonempty_threshold"]))
    case.check("inside", boxes.inside_box(size, case.params["boundary"]))


def test_changes_in_place_equal_detectron2(case):
    size = case.params["image_size"]
    normalized, clipped, scaled = (RotatedBoxes(case.tensor("boxes1")) for _ in range(3))
    normalized.normalize_angles()
    case.check("normalized", normalized.tensor)
    clipped.clip(size)
    case.check("clipped", clipped.tensor)
    scaled.scale(*case.params["scale"])
    case.check("scaled", scaled.tensor)


def test_clip_cuts_an_upright_box_and_leaves_a_turned_one():
    boxes = RotatedBoxes([[0, 5, 10, 4, 0.5], [0, 5, 10, 4, 30]])
    boxes.clip((10, 20))
    # The upright one reaches from x = -5 to 5; 0 to 5 is left of it.
    assert boxes.tensor.tolist() == [[2.5, 5, 5, 4, 0.5], [0, 5, 10, 4, 30]]


def test_scaling_a_quarter_turned_box_stretches_its_other_side():
    boxes = RotatedBoxes([[1, 1, 2, 6, 90]])
    boxes.scale(1.0, 10.0)  # down the image, where the width of a box turned by 90 points
    assert boxes.tensor[0].tolist() == pytest.approx([1, 10, 20, 6, 90], abs=1e-4)


def test_cat_index_clone_and_iteration():
    boxes = RotatedBoxes.cat([RotatedBoxes(torch.rand(2, 5)), RotatedBoxes([])])
    copy = boxes.clone()
    copy.tensor += 1
    assert len(boxes) == 2 and boxes[0].tensor.shape == (1, 5)
    assert not torch.equal(copy.tensor, boxes.tensor)
    assert torch.equal(torch.stack(list(boxes)), boxes.tensor)
    assert torch.equal(boxes.get_centers(), boxes.tensor[:, :2])
    assert RotatedBoxes.cat([]).tensor.shape == (0, 5)


def test_other_shapes_are_refused():
    with pytest.raises(AssertionError, match=r"\(N, 5\), found \(2, 4\)"):
        RotatedBoxes(torch.zeros(2, 4))
