"""ROIPooler and the assignment of boxes to levels, against detectron2's figures."""

import pytest
import torch

from d2lite.modeling.poolers import (
    ROIPooler,
    assign_boxes_to_levels,
    convert_boxes_to_pooler_format,
)
from d2lite.structures import Boxes, RotatedBoxes
from tests.golden import load_case

TYPES = ["ROIAlign", "ROIAlignV2", "ROIPool", "ROIAlignRotated"]


@pytest.mark.parametrize("pooler_type", TYPES)
def test_golden(pooler_type):
    case = load_case(f"pooler.{pooler_type}")
    features = [case.tensor(f"x{i}") for i in range(3)]
    kind = RotatedBoxes if pooler_type == "ROIAlignRotated" else Boxes
    boxes = [kind(case.tensor(f"boxes{i}")) for i in range(2)]
    case.check("y", ROIPooler(**case.params)(features, boxes))


def test_golden_levels():
    case = load_case("pooler.levels")
    boxes = [Boxes(case.tensor("boxes0")), Boxes(case.tensor("boxes1"))]
    for config in case.params["configs"]:
        name = "levels_" + "_".join(str(number) for number in config)
        case.check(name, assign_boxes_to_levels(boxes, *config))
    case.check("pooler_format", convert_boxes_to_pooler_format(boxes))
    rotated = convert_boxes_to_pooler_format([RotatedBoxes(case.tensor("rboxes0"))])
    case.check("pooler_format_rotated", rotated)


@pytest.mark.parametrize(
    "side, level",
    [(224, 2), (223.9, 1), (112, 1), (448, 3), (1, 0), (0, 0), (9999, 3)],
)
def test_level_of_a_square_box(side, level):
    boxes = [Boxes(torch.tensor([[0.0, 0.0, side, side]]))]
    assert assign_boxes_to_levels(boxes, 2, 5, 224, 4).tolist() == [level]


@pytest.mark.parametrize("pooler_type", TYPES)
@pytest.mark.parametrize("images", [0, 2])
def test_no_boxes(pooler_type, images):
    kind, size = (RotatedBoxes, 5) if pooler_type == "ROIAlignRotated" else (Boxes, 4)
    pooler = ROIPooler((7, 3), [1 / 4, 1 / 8], 0, pooler_type)
    features = [torch.randn(images, 5, 8, 8), torch.randn(images, 5, 4, 4)]
    assert pooler(features, [kind(torch.zeros(0, size))] * images).shape == (0, 5, 7, 3)


def test_single_level_takes_all_boxes():
    pooler = ROIPooler(2, [1 / 16], 0, "ROIAlignV2")
    boxes = Boxes(torch.tensor([[0.0, 0, 3, 3], [0, 0, 900, 900]]))
    feature = torch.ones(1, 1, 64, 64)
    torch.testing.assert_close(pooler([feature], [boxes]), torch.ones(2, 1, 2, 2))


@pytest.mark.parametrize(
    "scales", [[1 / 4, 1 / 16], [1 / 8, 1 / 4], [0.3], [2.0, 1.0], [1 / 4, 1 / 4]]
)
def test_impossible_scales_are_refused(scales):
    with pytest.raises(ValueError, match="consecutive powers of 1/2"):
        ROIPooler(7, scales, 0, "ROIAlignV2")


def test_unknown_type_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'ROIAlignV3'.*ROIAlignV2"):
        ROIPooler(7, [1 / 4], 0, "ROIAlignV3")


def test_wrong_number_of_maps_or_images_is_refused():
    pooler = ROIPooler(7, [1 / 4, 1 / 8], 0, "ROIAlignV2")
    feature, boxes = torch.zeros(1, 2, 8, 8), Boxes(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="2 scales, got 1 feature maps"):
        pooler([feature], [boxes])
    with pytest.raises(ValueError, match="2 images for a batch of 1"):
        pooler([feature, feature], [boxes, boxes])
