"""COCO's AP with rotated boxes, against pycocotools where boxes are straight."""

import contextlib
import io

import numpy as np
import pytest
import torch
from pycocotools.cocoeval import COCOeval

from d2lite.data import DatasetCatalog
from d2lite.evaluation import RotatedCOCOEvaluator
from d2lite.evaluation.rotated_coco_evaluation import RotatedCOCOeval
from d2lite.structures import Boxes, Instances, RotatedBoxes
from tests.evaluation.random_coco import load_pair, random_coco


def outputs_of(record, turn=0.0):
    """Detections equal to the ground truth, or turned by some degrees."""
    found = Instances((record["height"], record["width"]))
    boxes = torch.tensor([a["bbox"] for a in record["annotations"]]).reshape(-1, 5)
    boxes[:, 4] += turn
    found.pred_boxes = RotatedBoxes(boxes)
    found.scores = torch.ones(len(boxes))
    found.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]]).long()
    return {"instances": found}


def ap_on_shapes(turn):
    evaluator = RotatedCOCOEvaluator("shapes_rotated_val")
    evaluator.reset()
    records = DatasetCatalog.get("shapes_rotated_val")[:12]
    for record in records:
        evaluator.process([record], [outputs_of(record, turn)])
    return evaluator.evaluate(img_ids=[r["image_id"] for r in records])["bbox"]["AP"]


def test_ground_truth_as_prediction_is_perfect_and_turned_boxes_are_not():
    assert ap_on_shapes(0.0) == pytest.approx(100)
    assert ap_on_shapes(360.0) == pytest.approx(100)
    assert 0 < ap_on_shapes(20.0) < 60


def test_iou_worked_by_hand():
    evaluation = RotatedCOCOeval(iouType="bbox")
    # A square of side 2, and itself turned by 45 degrees: they share an octagon.
    octagon = 8 * (np.sqrt(2) - 1)
    found, true = [[10, 10, 2, 2, 45]], [[10, 10, 2, 2, 0], [10, 10, 2, 2, 90], [50, 50, 2, 2, 0]]
    iou = evaluation.compute_iou_dt_gt(found, true, [0, 0, 0])
    expected = octagon / (8 - octagon)
    np.testing.assert_allclose(iou, [[expected, expected, 0]], atol=1e-5)
    crowd = evaluation.compute_iou_dt_gt(found, true[:1], [1])
    np.testing.assert_allclose(crowd, [[octagon / 4]], atol=1e-5)


def test_straight_boxes_give_the_figures_of_pycocotools():
    dataset, detections = random_coco(5)
    stats = []
    for kind in (COCOeval, RotatedCOCOeval):
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = kind(*load_pair(dataset, detections), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        stats.append(evaluation.stats)
    assert stats[0][0] > 0
    np.testing.assert_allclose(stats[0], stats[1], atol=2e-3)  # IoU in float32 here


def test_boxes_of_four_numbers_can_be_mixed_in():
    evaluation = RotatedCOCOeval(iouType="bbox")
    iou = evaluation.compute_iou_dt_gt([[0, 0, 4, 2]], [[2, 1, 4, 2, 0]], [0])
    np.testing.assert_allclose(iou, [[1]], atol=1e-5)
    assert not RotatedCOCOeval.is_rotated([])
    assert RotatedCOCOeval.is_rotated([[1, 2, 3, 4, 5]])
    with pytest.raises(ValueError, match="5 into 4"):
        RotatedCOCOeval.boxlist_to_tensor([[1, 2, 3, 4, 5]], 4)


def test_a_straight_detector_is_written_as_xywh():
    found = Instances((9, 9))
    found.pred_boxes = Boxes(torch.tensor([[1.0, 2.0, 4.0, 8.0]]))
    found.scores, found.pred_classes = torch.ones(1), torch.zeros(1, dtype=torch.int64)
    evaluator = RotatedCOCOEvaluator("shapes_rotated_val")
    assert evaluator.instances_to_json(found, 3) == [
        {"image_id": 3, "category_id": 0, "bbox": [1, 2, 3, 6], "score": 1}
    ]


def test_other_tasks_are_an_error():
    with pytest.raises(ValueError, match=r"RotatedCOCOEvaluator has no task 'segm'.*\['bbox'\]"):
        RotatedCOCOEvaluator("shapes_rotated_val", ("segm",))


def test_masks_beside_rotated_boxes_are_written_and_not_evaluated():
    record = DatasetCatalog.get("shapes_rotated_val")[0]
    output = outputs_of(record)
    found = output["instances"]
    found.pred_masks = torch.zeros(len(found), *found.image_size, dtype=torch.bool)
    evaluator = RotatedCOCOEvaluator("shapes_rotated_val")
    evaluator.process([record], [output])
    assert "segmentation" in evaluator._predictions[0]["instances"][0]
    assert list(evaluator.evaluate()) == ["bbox"]
