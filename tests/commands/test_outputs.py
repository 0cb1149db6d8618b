"""Boxes and masks in shares of the image, and files of YOLO labels."""

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_util

from d2lite.commands.outputs import Result, YoloOutput, boxes_in_shares, polygon_in_shares
from d2lite.data import Metadata
from d2lite.structures import Boxes, Instances, RotatedBoxes


def test_boxes_in_shares_by_hand():
    # Center (20, 30), 20 wide and 40 high, in an image of 200 x 100 pixels.
    found = Instances((100, 200), pred_boxes=Boxes([[10, 10, 30, 50]]))
    assert boxes_in_shares(found) == [pytest.approx([0.1, 0.3, 0.1, 0.4])]


def test_rotated_boxes_are_refused():
    found = Instances((4, 8), pred_boxes=RotatedBoxes([[2, 2, 2, 2, 30]]))
    with pytest.raises(ValueError, match="for upright boxes"):
        boxes_in_shares(found)


def test_polygon_is_that_of_the_largest_part():
    mask = np.zeros((20, 40), np.uint8)
    mask[2:4, 2:4] = 1
    mask[10:16, 20:31] = 1
    polygon = polygon_in_shares(mask_util.encode(np.asfortranarray(mask)), 20, 40)
    x, y = np.array(polygon).reshape(-1, 2).T * [[40], [20]]
    assert (x.min(), y.min()) == pytest.approx((20, 10), abs=0.51)
    assert (x.max(), y.max()) == pytest.approx((30, 15), abs=0.51)


def test_empty_mask_has_no_polygon():
    mask = np.zeros((20, 40), np.uint8, order="F")
    assert polygon_in_shares(mask_util.encode(mask), 20, 40) == []


def test_labels_of_an_image_without_detections_are_empty(tmp_path):
    metadata = Metadata(name="names").set(thing_classes=["a: b", "c"])
    none = Instances((4, 8), pred_boxes=Boxes(torch.zeros(0, 4)))
    none.scores, none.pred_classes = torch.zeros(0), torch.zeros(0, dtype=torch.long)
    writer = YoloOutput(str(tmp_path), metadata)
    writer.add(Result(np.zeros((4, 8, 3), np.uint8), {"instances": none}, "x.png", "x"))
    assert (tmp_path / "labels/x.txt").read_text() == ""
    assert (tmp_path / "data.yaml").read_text() == 'names:\n  0: "a: b"\n  1: "c"\n'
