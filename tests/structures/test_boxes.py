import numpy as np
import pytest
import torch

from d2lite.structures import (
    Boxes,
    BoxMode,
    pairwise_ioa,
    pairwise_iou,
    pairwise_point_box_distance as point_distance,
)
from d2lite.structures.boxes import matched_pairwise_iou, pairwise_intersection
from tests.golden import load_case


@pytest.fixture(scope="module")
def case():
    return load_case("boxes.pairwise")


@pytest.mark.parametrize(
    "name, overlap",
    [
        ("iou", pairwise_iou),
        ("ioa", pairwise_ioa),
        ("intersection", pairwise_intersection),
    ],
)
def test_overlaps_equal_detectron2(case, name, overlap):
    case.check(name, overlap(Boxes(case.tensor("boxes1")), Boxes(case.tensor("boxes2"))))


def test_distances_and_matched_iou_equal_detectron2(case):
    boxes1, boxes2 = Boxes(case.tensor("boxes1")), Boxes(case.tensor("boxes2"))
    case.check("point_box_distance", point_distance(case.tensor("points"), boxes2))
    case.check("matched_iou", matched_pairwise_iou(boxes1[: len(boxes2)], boxes2))


def test_methods_equal_detectron2(case):
    boxes, size = Boxes(case.tensor("boxes1")), case.params["image_size"]
    case.check("area", boxes.area())
    case.check("centers", boxes.get_centers())
    case.check("nonempty", boxes.nonempty(case.params["nonempty_threshold"]))
    case.check("inside", boxes.inside_box(size, case.params["boundary"]))
    clipped, scaled = boxes.clone(), boxes.clone()
    clipped.clip(size)
    case.check("clipped", clipped.tensor)
    scaled.scale(*case.params["scale"])
    case.check("scaled", scaled.tensor)


def test_box_modes_equal_detectron2():
    case = load_case("boxes.box_mode")
    for source, target in case.params["pairs"]:
        boxes = case.tensor("rboxes" if source == "XYWHA_ABS" else "boxes")
        got = BoxMode.convert(boxes, BoxMode[source], BoxMode[target])
        case.check(f"{source}_to_{target}", got)


@pytest.mark.parametrize("kind", [list, tuple])
def test_converting_a_list_or_tuple_gives_its_own_type(kind):
    got = BoxMode.convert(kind([3.0, 4.0, 10.0, 20.0]), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    assert got == kind([3.0, 4.0, 13.0, 24.0])


def test_list_of_whole_numbers_stays_whole():
    got = BoxMode.convert([3, 4, 13, 24], BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    assert got == [3, 4, 10, 20] and all(isinstance(x, int) for x in got)
    assert BoxMode.convert([0, 0, 3, 2], BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS) == [1.5, 1, 3, 2, 0]


@pytest.mark.parametrize("box", [[1.0, 2.0, 3.0], [1.0] * 6, [], [[1.0, 2.0, 3.0, 4.0]]])
@pytest.mark.parametrize("kind", [list, tuple])
def test_list_of_another_length_is_refused(kind, box):
    with pytest.raises(AssertionError):
        BoxMode.convert(kind(box), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)


def test_converting_an_array_keeps_dtype_and_the_input():
    boxes = np.array([[3, 4, 10, 20]], dtype=np.float32)
    got = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    assert isinstance(got, np.ndarray) and got.dtype == np.float32
    assert got.tolist() == [[3, 4, 7, 16]] and boxes.tolist() == [[3, 4, 10, 20]]


def test_a_quarter_turn_swaps_the_sides():
    got = BoxMode.convert([10.0, 10.0, 4.0, 2.0, 90.0], BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS)
    assert got == pytest.approx([9.0, 8.0, 11.0, 12.0])


def test_modes_without_conversion_are_refused_by_name():
    with pytest.raises(AssertionError, match="XYXY_REL to XYXY_ABS"):
        BoxMode.convert([0.0, 0.0, 1.0, 1.0], BoxMode.XYXY_REL, BoxMode.XYXY_ABS)
    with pytest.raises(NotImplementedError, match="XYXY_ABS to XYWHA_ABS"):
        BoxMode.convert([0.0, 0.0, 1.0, 1.0], BoxMode.XYXY_ABS, BoxMode.XYWHA_ABS)
    with pytest.raises(AssertionError, match="XYWHA_ABS box has 5 numbers"):
        BoxMode.convert([0.0, 0.0, 1.0, 1.0], BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS)


def test_boxes_without_extent_overlap_nothing():
    point, box = Boxes([[5, 5, 5, 5]]), Boxes([[0, 0, 10, 10], [5, 5, 5, 5]])
    assert pairwise_iou(point, box).tolist() == [[0, 0]]
    assert pairwise_ioa(box, point).tolist() == [[0], [0]]


def test_overlap_with_no_boxes_has_no_columns():
    assert pairwise_iou(Boxes(torch.rand(3, 4)), Boxes([])).shape == (3, 0)


@pytest.mark.parametrize(
    "item, rows",
    [
        (1, [1]),
        (-1, [2]),
        (slice(1, None), [1, 2]),
        (torch.tensor([True, False, True]), [0, 2]),
        (torch.tensor([2, 0]), [2, 0]),
    ],
)
def test_indexing_selects_rows(item, rows):
    tensor = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(Boxes(tensor)[item].tensor, tensor[rows])


def test_values_of_other_shape_or_range_are_refused():
    with pytest.raises(AssertionError, match=r"\(N, 4\), found \(2, 5\)"):
        Boxes(torch.zeros(2, 5))
    with pytest.raises(AssertionError, match="infinite or nan"):
        Boxes([[0, 0, float("inf"), 1]]).clip((10, 10))
    with pytest.raises(AssertionError, match="select rows only"):
        Boxes(torch.zeros(2, 4))[torch.tensor(1)]


def test_integers_become_float32_and_nothing_becomes_0_by_4():
    assert Boxes(torch.zeros(2, 4, dtype=torch.int64)).tensor.dtype == torch.float32
    assert Boxes([]).tensor.shape == (0, 4)
    assert Boxes.cat([]).tensor.shape == (0, 4)


def test_cat_keeps_the_order_and_iteration_gives_rows():
    both = Boxes.cat([Boxes([[0, 0, 1, 1]]), Boxes([[2, 2, 3, 3]])])
    assert [row.tolist() for row in both] == [[0, 0, 1, 1], [2, 2, 3, 3]]
    assert len(both) == 2 and both.device.type == "cpu"
