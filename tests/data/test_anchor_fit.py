"""Anchors that fit the boxes of a dataset."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

from d2lite.data import DatasetCatalog, anchor_fit
from d2lite.data.transforms import ResizeShortestEdge
from d2lite.modeling.anchor_generator import DefaultAnchorGenerator
from d2lite.structures import BoxMode


def test_iou_of_shapes_on_one_center():
    a = torch.tensor([[10.0, 10.0], [10.0, 20.0]])
    b = torch.tensor([[10.0, 10.0], [20.0, 10.0], [5.0, 2.0]])
    expected = torch.tensor([[1.0, 1 / 2, 1 / 10], [1 / 2, 1 / 3, 1 / 20]])
    torch.testing.assert_close(anchor_fit.iou_of_sizes(a, b), expected)


def test_kmeans_finds_separate_groups():
    groups = torch.tensor([[10.0, 10.0], [10.0, 80.0], [90.0, 30.0]])
    sizes = torch.cat([groups, groups * 1.02, groups * 0.98])
    found = anchor_fit.kmeans_by_iou(sizes, 3, seed=4)
    torch.testing.assert_close(found, groups)  # by area, and each the mean of its group


def test_as_many_anchors_as_boxes_fit_exactly():
    sizes = torch.tensor([[3.0, 4.0], [5.0, 60.0], [7.0, 8.0], [3.0, 4.0]])
    assert anchor_fit.mean_iou(sizes, anchor_fit.kmeans_by_iou(sizes, 3)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="4 anchors are wanted, but there are only 3 sizes"):
        anchor_fit.kmeans_by_iou(sizes, 4)


def test_more_anchors_never_fit_worse_than_one():
    sizes = torch.rand(200, 2) * 90 + 10
    one, five = (anchor_fit.mean_iou(sizes, anchor_fit.kmeans_by_iou(sizes, k)) for k in (1, 5))
    assert five > one


def test_groups_without_members_keep_their_value():
    values = torch.tensor([[1.0], [3.0]])
    got = anchor_fit.mean_by_group(values, torch.tensor([0, 0]), torch.tensor([[9.0], [7.0]]))
    assert got.tolist() == [[2.0], [7.0]]


def test_grid_is_recovered_from_its_own_boxes():
    sides, ratios = torch.tensor([12.0, 50.0, 200.0]), torch.tensor([0.5, 1.5])
    found = anchor_fit.fit_grid(anchor_fit.grid_sizes(sides, ratios).repeat(3, 1), 3, 2)
    torch.testing.assert_close(found, (sides, ratios))


def test_grid_has_the_anchors_of_the_generator():
    sizes, ratios = [16.0, 40.0], [0.5, 1.0, 2.0]
    generator = DefaultAnchorGenerator(sizes=[sizes], aspect_ratios=[ratios], strides=[8])
    x0, y0, x1, y1 = next(iter(generator.cell_anchors)).unbind(dim=1)
    got = anchor_fit.grid_sizes(torch.tensor(sizes), torch.tensor(ratios))
    torch.testing.assert_close(got, torch.stack((x1 - x0, y1 - y0), dim=1))


def test_default_boxes_are_torchvisions():
    scales, ratios = [0.1, 0.3, 0.6], [[2], [2, 3]]
    theirs = DefaultBoxGenerator(ratios, scales=scales)._wh_pairs
    expected = torch.cat([pairs.clamp(max=1) for pairs in theirs]) * 300
    got = anchor_fit.ssd_sizes(scales, ratios, 300)
    torch.testing.assert_close(got.sort(dim=0).values, expected.sort(dim=0).values)


@pytest.mark.parametrize("short, longest", [(100, 1000), (100, 120), (0, 120)])
def test_boxes_shrink_as_the_image_does(short, longest):
    height, width = 480, 640
    got = anchor_fit.resized_by_short_side(
        torch.tensor([[64.0, 48.0]]), torch.tensor([[640.0, 480.0]]), short, longest
    )
    if short:
        height, width = ResizeShortestEdge.get_output_shape(height, width, short, longest)
    torch.testing.assert_close(got, torch.tensor([[width / 10, height / 10]]), rtol=0.01, atol=0)


def box(values, mode=BoxMode.XYWH_ABS, **more):
    return {"bbox": values, "bbox_mode": mode, "category_id": 0, **more}


def test_crowds_and_empty_boxes_do_not_count():
    annotations = [
        box([0, 0, 10, 20]),
        box([5, 5, 25, 15], BoxMode.XYXY_ABS),
        box([50, 50, 30, 40, 45], BoxMode.XYWHA_ABS),
        box([0, 0, 10, 20], iscrowd=1),
        box([0, 0, 0, 20]),
    ]
    records = [{"width": 100, "height": 80, "annotations": annotations}, {"width": 9, "height": 9}]
    boxes, images = anchor_fit.read_sizes(records)
    assert boxes.tolist() == [[10, 20], [20, 10], [30, 40]]
    assert images.tolist() == [[100, 80]] * 3
    with pytest.raises(ValueError, match="none of the 1 images has a box"):
        anchor_fit.read_sizes([{"width": 9, "height": 9, "annotations": []}])


def test_image_sizes_are_read_where_the_data_lack_them():
    picture = DatasetCatalog.get("shapes_val")[0]
    record = {"file_name": picture["file_name"], "annotations": [box([0, 0, 1, 1])]}
    assert anchor_fit.read_sizes([record])[1].tolist() == [[picture["width"], picture["height"]]]
