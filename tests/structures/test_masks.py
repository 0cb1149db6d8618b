import numpy as np
import pytest
import torch

from d2lite.structures import BitMasks, Boxes, PolygonMasks, ROIMasks, polygons_to_bitmask
from d2lite.structures.masks import polygon_area, rasterize_polygons_within_box
from tests.golden import load_case

SQUARE = np.array([2.0, 2, 6, 2, 6, 6, 2, 6])


@pytest.fixture(scope="module")
def case():
    return load_case("masks.polygons_and_bitmasks")


@pytest.fixture(scope="module")
def polygons(case):
    return PolygonMasks(case.inputs["polygons"])


@pytest.fixture(scope="module")
def bitmaps(case, polygons):
    return BitMasks.from_polygon_masks(polygons, *case.params["image_size"])


def test_rasterization_equals_detectron2(case, polygons, bitmaps):
    case.check("bitmask", np.packbits(bitmaps.tensor.numpy()))
    first = polygons_to_bitmask(polygons.polygons[0], *case.params["image_size"])
    case.check("bitmask0", np.packbits(first))


def test_areas_boxes_and_emptiness_equal_detectron2(case, polygons, bitmaps):
    case.check("poly_area", polygons.area())
    case.check("bit_area", bitmaps.tensor.sum(dim=(1, 2)))
    case.check("poly_boxes", polygons.get_bounding_boxes().tensor)
    case.check("bit_boxes", bitmaps.get_bounding_boxes().tensor)
    case.check("poly_nonempty", polygons.nonempty())
    case.check("bit_nonempty", bitmaps.nonempty())
    empty = BitMasks(torch.zeros(1, *case.params["image_size"]))
    case.check("empty_bit_box", empty.get_bounding_boxes().tensor)


@pytest.mark.parametrize("size", [28, 14])
def test_crops_equal_detectron2(case, polygons, bitmaps, size):
    boxes = case.tensor("boxes")
    case.check(f"poly_crop_{size}", polygons.crop_and_resize(boxes, size).to(torch.uint8))
    case.check(f"bit_crop_{size}", bitmaps.crop_and_resize(boxes, size).to(torch.uint8))


def test_one_object_is_rasterized_as_among_many(case, polygons):
    box = case.inputs["boxes"][2]
    alone = rasterize_polygons_within_box(polygons.polygons[2], box, 14)
    case.check("poly_crop_14", polygons.crop_and_resize(case.tensor("boxes"), 14).byte())
    assert np.array_equal(alone.numpy(), case.outputs["poly_crop_14"][2])


def test_pasting_equals_detectron2(case):
    masks = ROIMasks(case.tensor("roi_masks"))
    got = masks.to_bitmasks(Boxes(case.tensor("boxes")), *case.params["image_size"])
    case.check("roi_to_bit", np.packbits(got.tensor.numpy()))


def test_area_by_hand():
    assert polygon_area(SQUARE[0::2], SQUARE[1::2]) == 16
    triangle = np.array([0.0, 0, 4, 0, 0, 3])
    assert PolygonMasks([[SQUARE, triangle], [triangle]]).area().tolist() == [22, 6]


def test_a_square_fills_its_pixels_and_the_crop_by_its_own_box():
    want = np.zeros((8, 8), dtype=bool)
    want[2:6, 2:6] = True
    assert np.array_equal(polygons_to_bitmask([SQUARE], 8, 8), want)
    crop = PolygonMasks([[SQUARE]]).crop_and_resize(torch.tensor([[2.0, 2, 6, 6]]), 5)
    assert crop.dtype == torch.bool and crop.shape == (1, 5, 5) and crop.all()


def test_objects_without_parts_are_empty_bitmaps_in_their_place():
    masks = BitMasks.from_polygon_masks([[], [SQUARE], []], 8, 8)
    assert masks.nonempty().tolist() == [False, True, False]
    assert masks.tensor[1].sum() == 16
    assert not polygons_to_bitmask([], 3, 4).any()


def test_no_objects_at_all():
    none = PolygonMasks([])
    assert none.crop_and_resize(torch.zeros(0, 4), 28).shape == (0, 28, 28)
    assert none.get_bounding_boxes().tensor.shape == (0, 4)
    assert BitMasks(torch.zeros(0, 8, 8)).get_bounding_boxes().tensor.shape == (0, 4)
    assert BitMasks(torch.zeros(0, 8, 8)).crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)


@pytest.mark.parametrize(
    "bad, message",
    [
        (SQUARE, "list of objects"),
        ([SQUARE], "list of polygons"),
        ([[[0, 0, 1, 1]]], "at least 3 vertices"),
        ([[[0, 0, 1, 1, 2, 2, 3]]], "at least 3 vertices"),
        ([[np.zeros((3, 2))]], "flat list"),
    ],
)
def test_what_is_no_polygon_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        PolygonMasks(bad)


@pytest.mark.parametrize(
    "item, chosen",
    [
        (1, [1]),
        (-1, [2]),
        (slice(0, 2), [0, 1]),
        ([2, 0], [2, 0]),
        (torch.tensor([True, False, True]), [0, 2]),
        (torch.tensor([1]), [1]),
    ],
)
def test_indexing_selects_objects(item, chosen):
    parts = [[SQUARE + i] for i in range(3)]
    assert [p[0][0] for p in PolygonMasks(parts)[item]] == [2.0 + i for i in chosen]


def test_bitmaps_index_join_and_find_their_boxes():
    tensor = torch.zeros(2, 5, 6)
    tensor[0, 1:3, 2:5] = 1
    masks = BitMasks.cat([BitMasks(tensor), BitMasks(tensor)[0]])
    assert masks.image_size == (5, 6)
    assert masks.get_bounding_boxes().tensor.tolist() == [[2, 1, 5, 3], [0] * 4, [2, 1, 5, 3]]
    assert len(list(masks)) == 3 and masks[1].tensor.shape == (1, 5, 6)


def test_polygons_join_and_ignore_devices():
    masks = PolygonMasks([[SQUARE]])
    both = PolygonMasks.cat([masks.to("cuda"), masks])
    assert len(both) == 2 and both.device.type == "cpu"


def test_roi_masks_without_boxes_cover_the_image():
    left = torch.zeros(1, 4, 4)
    left[:, :, :2] = 1
    assert (
        BitMasks.from_roi_masks(ROIMasks(left), 8, 8).tensor[0, 4].tolist()
        == [True] * 4 + [False] * 4
    )
    with pytest.raises(ValueError, match=r"\(N, M, M\), found \(1, 1, 4, 4\)"):
        ROIMasks(left[None])


def test_box_of_polygons_reaches_to_zero_at_least():
    left_above = [-4.0, -3.0, -2.0, -3.0, -2.0, -1.0]
    boxes = PolygonMasks([[], [left_above]]).get_bounding_boxes().tensor.tolist()
    assert boxes == [[np.inf, np.inf, 0, 0], [-4, -3, 0, 0]]
