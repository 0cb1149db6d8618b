"""Ground truth as a COCO object, detections in COCO's format of results, and back."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_util

from d2lite.evaluation.coco_json import (
    coco_json_to_instances,
    encode_masks,
    image_id_of,
    instances_to_coco_json,
    load_coco_api,
)
from d2lite.structures import BitMasks, Instances, RotatedBoxes
from tests.evaluation.two_boxes import SIZE, detections, records


def test_instances_in_json():
    found = detections(masks=True, keypoints=True)
    rows = instances_to_coco_json(found, 3)
    assert rows[1]["bbox"] == [45, 5, 30, 25]
    assert rows[0]["keypoints"] == [14.5, 14.5, 1, 34.5, 44.5, 1]  # pixels, not coordinates
    assert json.loads(json.dumps(rows[0]["segmentation"]))["size"] == list(SIZE)
    as_bitmasks = Instances(SIZE, **found.get_fields())
    as_bitmasks.pred_masks = BitMasks(found.pred_masks)
    assert instances_to_coco_json(as_bitmasks, 3) == rows
    assert instances_to_coco_json(detections([], ()), 3) == []


def test_results_come_back_as_the_detections_that_they_were():
    found = detections(masks=True, keypoints=True)
    back = coco_json_to_instances(instances_to_coco_json(found, 3), SIZE, {0: 0, 1: 1})
    assert back.get_fields().keys() == found.get_fields().keys()
    np.testing.assert_allclose(back.pred_boxes.tensor, found.pred_boxes.tensor)
    np.testing.assert_allclose(back.scores, found.scores)
    np.testing.assert_allclose(back.pred_keypoints, found.pred_keypoints)
    assert torch.equal(back.pred_masks.bool(), found.pred_masks)
    assert torch.equal(back.pred_classes, found.pred_classes)
    with pytest.raises(ValueError, match=r"image 3: category_id 1 is not one of .* has \[0\]"):
        coco_json_to_instances(instances_to_coco_json(found, 3), SIZE, {0: 0})


def test_input_is_not_changed_by_json():
    found = detections(keypoints=True)
    before = found.pred_keypoints.clone()
    instances_to_coco_json(found, 0)
    np.testing.assert_array_equal(found.pred_keypoints, before)


def test_rotated_boxes_stay_rotated():
    box = [20.0, 30.0, 10.0, 4.0, 45.0]
    found = Instances(SIZE, pred_boxes=RotatedBoxes(torch.tensor([box])))
    found.scores, found.pred_classes = torch.tensor([0.5]), torch.tensor([1])
    rows = instances_to_coco_json(found, 3)
    assert rows == [{"image_id": 3, "category_id": 1, "bbox": box, "score": 0.5}]
    back = coco_json_to_instances(rows, SIZE, {1: 0})
    assert isinstance(back.pred_boxes, RotatedBoxes)
    assert back.pred_boxes.tensor.tolist() == [box]


def test_masks_of_a_part_of_the_results_are_left_out():
    rows = instances_to_coco_json(detections(masks=True), 3)
    del rows[0]["segmentation"]
    back = coco_json_to_instances(rows, SIZE, {0: 0, 1: 1})
    assert len(back) == 2 and not back.has("pred_masks")


def test_masks_are_encoded_once():
    masks = detections(masks=True).pred_masks
    rles = encode_masks(masks)
    assert [mask_util.area(rle) for rle in rles] == [30 * 40, 30 * 25]
    assert all(isinstance(rle["counts"], str) for rle in rles)
    assert encode_masks(rles) is rles


def test_objects_without_keypoints_get_invisible_ones(register):
    first, second = records()[0]["annotations"]
    second = {k: v for k, v in second.items() if k != "keypoints"}
    image = {**records()[0], "annotations": [first, second]}
    api = load_coco_api(register("evaluation_keypoints", [image], thing_classes=["cat", "dog"]))
    rows = api.loadAnns(api.getAnnIds(imgIds=[5]))
    # Pixels, half a pixel less than coordinates.
    assert rows[0]["keypoints"] == [14.5, 14.5, 2, 34.5, 44.5, 2]
    assert rows[0]["num_keypoints"] == 2
    assert (rows[1]["keypoints"], rows[1]["num_keypoints"]) == ([0] * 6, 0)


def test_datasets_without_annotations_have_none(register):
    image = {k: v for k, v in records()[0].items() if k != "annotations"}
    api = load_coco_api(register("evaluation_no_objects", [image], thing_classes=["cat"]))
    assert "annotations" not in api.dataset
    assert api.getImgIds() == [5]


def test_inputs_need_an_image_id():
    assert image_id_of({"image_id": 0}) == 0
    with pytest.raises(ValueError, match=r"a\.jpg has no 'image_id'"):
        image_id_of({"file_name": "a.jpg"})
