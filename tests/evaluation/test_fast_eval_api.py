"""The compiled COCOeval gives pycocotools' figures to the last bit."""

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from d2lite.evaluation.coco_evaluation import (
    COCOevalMaxDets,
    evaluate_predictions_on_coco,
    summarize_boxes,
)
from d2lite.evaluation.fast_eval_api import COCOeval_opt
from tests.evaluation.random_coco import load_pair, random_coco

TASKS = ("bbox", "segm", "keypoints")


def evaluated(kind, dataset, detections, task, **params):
    """An evaluation after accumulate, and after summarize where that works."""
    with contextlib.redirect_stdout(io.StringIO()):
        result = kind(*load_pair(dataset, detections), task)
        for name, value in params.items():
            setattr(result.params, name, value)
        result.evaluate()
        result.accumulate()
        if not params:
            result.summarize()
    return result


def without_other_shapes(detections: list[dict], task: str) -> list[dict]:
    """Results as a model of this task alone would give them."""
    drop = {"bbox": (), "segm": ("bbox",), "keypoints": ("bbox", "segmentation")}[task]
    return [{k: v for k, v in d.items() if k not in drop} for d in copy.deepcopy(detections)]


def assert_equal(first, second) -> None:
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(first.eval[name], second.eval[name], err_msg=name)
    np.testing.assert_array_equal(first.stats, second.stats)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools_bit_for_bit(task, seed):
    dataset, detections = random_coco(seed)
    detections = without_other_shapes(detections, task)
    slow = evaluated(COCOeval, dataset, detections, task)
    assert (slow.eval["precision"] > 0).any()  # there is something to compare
    assert_equal(slow, evaluated(COCOeval_opt, dataset, detections, task))


@pytest.mark.parametrize(
    "params",
    [
        {"maxDets": [1, 3, 7]},
        {"useCats": 0},
        {"imgIds": [1, 4, 7, 10]},
        {"catIds": [4, 1]},
        {"iouThrs": np.array([0.3, 0.5])},
        {"recThrs": np.array([0.0, 0.5, 1.0])},
    ],
    ids=lambda p: next(iter(p)),
)
def test_equals_pycocotools_with_other_parameters(params):
    for seed in range(3):
        dataset, detections = random_coco(seed)
        slow = evaluated(COCOeval, dataset, detections, "bbox", **params)
        fast = evaluated(COCOeval_opt, dataset, detections, "bbox", **params)
        assert_equal(slow, fast)


def test_a_single_true_positive_has_the_precision_of_pycocotools():
    # By hand: one object, found first; then one false alarm. pycocotools has 1 / (1 + eps).
    box = [10.0, 10.0, 20.0, 20.0]
    truth = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 400.0, "iscrowd": 0}
    dataset = {
        "images": [{"id": 1, "height": 100, "width": 100}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [truth],
    }
    found = {"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}
    wrong = {"image_id": 1, "category_id": 1, "bbox": [60.0, 60.0, 9.0, 9.0], "score": 0.5}
    result = evaluated(COCOeval_opt, dataset, [found, wrong], "bbox")
    expected = 1 / (1 + np.spacing(1))
    assert expected < 1
    assert (result.eval["precision"][:, :, 0, 0, 2] == expected).all()


def test_annotation_id_zero_is_treated_as_pycocotools_does():
    dataset, detections = random_coco(1)
    for annotation in dataset["annotations"]:
        annotation["id"] -= 1  # 0 means "no match" to pycocotools
    slow = evaluated(COCOeval, dataset, detections, "bbox")
    assert_equal(slow, evaluated(COCOeval_opt, dataset, detections, "bbox"))


def test_accumulate_before_evaluate_is_an_error():
    dataset, detections = random_coco(0)
    with pytest.raises(RuntimeError, match="evaluate"):
        COCOeval_opt(*load_pair(dataset, detections), "bbox").accumulate()


def test_summary_for_the_standard_limits_is_that_of_pycocotools():
    dataset, detections = random_coco(2)
    slow = evaluated(COCOeval, dataset, detections, "bbox")
    np.testing.assert_array_equal(summarize_boxes(slow), slow.stats)


def test_summary_for_other_limits_takes_the_last_of_them():
    dataset, detections = random_coco(2)
    few = evaluated(COCOevalMaxDets, dataset, detections, "bbox")
    few.params.maxDets = [1, 2, 5]
    with contextlib.redirect_stdout(io.StringIO()):
        few.evaluate()
        few.accumulate()
    few.summarize()
    ap = few.eval["precision"][:, :, :, 0, 2]
    assert few.stats[0] == np.mean(ap[ap > -1])
    slow = evaluated(COCOeval, dataset, detections, "bbox", maxDets=[1, 2, 5])
    assert slow.eval["precision"][:, :, :, 0, 2].mean() == ap.mean()


def test_results_are_left_as_they_are():
    dataset, detections = random_coco(3)
    truth, _ = load_pair(dataset, detections)
    before = copy.deepcopy(detections)
    for task in TASKS:
        evaluate_predictions_on_coco(truth, detections, task)
    assert detections == before


@pytest.mark.parametrize("task", TASKS)
def test_images_may_have_names_for_ids(task):
    dataset, detections = random_coco(2)
    for row in (*dataset["annotations"], *detections):
        row["image_id"] = f"photo_{row['image_id']:05d}"
    for image in dataset["images"]:
        image["id"] = f"photo_{image['id']:05d}"
    detections = without_other_shapes(detections, task)
    slow = evaluated(COCOeval, dataset, detections, task)
    assert (slow.eval["precision"] > 0).any()
    assert_equal(slow, evaluated(COCOeval_opt, dataset, detections, task))
