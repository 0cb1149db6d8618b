"""Landmark figures, by hand."""

import math

import pytest
import torch

from d2lite.data import DatasetCatalog
from d2lite.projects.retinaface import LandmarkEvaluator, match_by_score, normalized_error
from d2lite.structures import Boxes, BoxMode, Instances

NAME = "landmark_evaluation_test"


def face(x, visible=2):
    """A face of 10 x 40 (side 20) at (x, 0) with two landmarks in its corners."""
    return {
        "bbox": [x, 0, 10, 40],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 0,
        "keypoints": [x, 0, visible, x + 10, 40, visible],
        "iscrowd": 0,
    }


@pytest.fixture
def evaluator():
    records = [
        {"image_id": 7, "annotations": [face(0), face(100), face(200), face(300, visible=0)]},
        {"image_id": 8, "annotations": []},
    ]
    DatasetCatalog.register(NAME, lambda: records)
    yield LandmarkEvaluator(NAME)
    DatasetCatalog.remove(NAME)


def detections(boxes, points):
    count = len(boxes)
    return {
        "instances": Instances(
            (50, 400),
            pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
            scores=torch.linspace(1, 0.1, count),
            pred_classes=torch.zeros(count, dtype=torch.int64),
            pred_keypoints=torch.tensor(points).reshape(-1, 2, 3),
        )
    }


def test_figures_of_a_worked_example(evaluator):
    boxes = [[0.0, 0.0, 10.0, 40.0], [100.0, 0.0, 110.0, 40.0], [0.0, 0.0, 10.0, 40.0]]
    points = [
        [[0.0, 0.0, 1.0], [10.0, 40.0, 1.0]],  # exact
        [[100.0, 4.0, 1.0], [110.0, 34.0, 1.0]],  # off by 4 and 6: 5 of a side of 20
        [[9.0, 9.0, 1.0], [9.0, 9.0, 1.0]],  # a second detection of the first face
    ]
    evaluator.process(
        [{"image_id": 7}, {"image_id": 8}], [detections(boxes, points), detections([], [])]
    )
    figures = evaluator.evaluate()["landmarks"]
    assert figures["NME"] == pytest.approx(12.5)  # mean of 0 and 25 percent
    assert figures["FR10"] == pytest.approx(50.0)
    assert figures["Detected"] == pytest.approx(200 / 3)  # the last has no landmarks


def test_nothing_detected_gives_nan(evaluator):
    evaluator.process([{"image_id": 7}], [detections([], [])])
    figures = evaluator.evaluate()["landmarks"]
    assert math.isnan(figures["NME"]) and figures["Detected"] == 0.0


def test_another_class_is_no_match(evaluator):
    output = detections([[0.0, 0.0, 10.0, 40.0]], [[[0.0, 0.0, 1.0], [10.0, 40.0, 1.0]]])
    output["instances"].pred_classes += 1
    evaluator.process([{"image_id": 7}], [output])
    assert evaluator.evaluate()["landmarks"]["Detected"] == 0.0


def test_no_image_gives_no_figures(evaluator):
    assert evaluator.evaluate() == {}


def test_best_score_takes_its_object_first():
    iou = torch.tensor([[0.9, 0.8, 0.2], [0.0, 0.7, 0.3]])
    scores = torch.tensor([0.5, 0.9, 0.7])
    # Detection 1 comes first and takes object 0; 2 overlaps too little; 0 finds nothing free.
    assert match_by_score(iou, scores, 0.5).tolist() == [1, -1]
    assert match_by_score(torch.zeros(0, 3), scores, 0.5).tolist() == []


def test_hidden_points_count_and_unlabeled_ones_do_not():
    truth = torch.tensor([[[0.0, 0.0, 1.0], [5.0, 5.0, 0.0]]])
    points = torch.tensor([[[3.0, 4.0], [99.0, 99.0]]])
    error = normalized_error(points, truth, torch.tensor([[0.0, 0.0, 10.0, 10.0]]))
    assert error.tolist() == [pytest.approx(0.5)]  # 5 pixels of a side of 10
