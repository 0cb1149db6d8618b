"""Kinds of errors and what they cost: by hand, and against COCO's evaluation."""

import numpy as np
import pytest

from d2lite.evaluation import error_analysis as analysis
from d2lite.evaluation.coco_evaluation import evaluate_predictions_on_coco
from d2lite.evaluation.coco_json import coco_api
from d2lite.evaluation.error_analysis import ImageObjects, match_image
from tests.evaluation.random_coco import CATEGORIES, random_coco


def image(objects, detections) -> ImageObjects:
    """objects: (box, class) or (box, class, crowd); detections: (box, class, score)."""
    gt = [(*row, False)[:3] for row in objects]
    return ImageObjects(
        np.array([row[0] for row in gt], float).reshape(-1, 4),
        np.array([row[1] for row in gt], int),
        np.array([row[2] for row in gt], bool),
        np.array([row[0] for row in detections], float).reshape(-1, 4),
        np.array([row[1] for row in detections], int),
        np.array([row[2] for row in detections], float),
    )


OBJECT = [0, 0, 10, 10]
NEAR = [0, 0, 10, 6]  # IoU 0.6
HALF = [0, 0, 10, 4]  # IoU 0.4
FAR = [0, 0, 10, 0.9]  # IoU 0.09


@pytest.mark.parametrize(
    "detections, kinds, missed",
    [
        ([(NEAR, 0, 0.9)], ["correct"], False),
        ([(OBJECT, 0, 0.9), (NEAR, 0, 0.8)], ["correct", "duplicate"], False),
        ([(OBJECT, 1, 0.9)], ["class"], False),
        ([(HALF, 0, 0.9)], ["location"], False),
        ([(HALF, 1, 0.9)], ["both"], True),
        ([(FAR, 0, 0.9)], ["background"], True),
        ([([50, 50, 60, 60], 0, 0.9)], ["background"], True),
        ([], [], True),
    ],
)
def test_kinds_by_hand(detections, kinds, missed):
    matched = match_image(image([(OBJECT, 0)], detections))
    assert [analysis.KINDS[k] for k in matched.kinds] == kinds
    assert matched.missed.tolist() == [missed]


def test_detection_in_a_crowd_counts_neither_way():
    matched = match_image(image([(OBJECT, 0, True)], [(NEAR, 0, 0.9), (HALF, 0, 0.5)]))
    assert [analysis.KINDS[k] for k in matched.kinds] == ["ignored", "ignored"]
    assert matched.missed.tolist() == [False]
    assert analysis.error_costs([matched], 1)["correct"][0] == 0


def test_image_without_objects():
    matched = match_image(image([], [(OBJECT, 0, 0.9)]))
    assert [analysis.KINDS[k] for k in matched.kinds] == ["background"]


def test_costs_by_hand():
    # Class 0 has two objects. One is found at 0.8; before it comes a background at 0.9. Recall 0.5
    # at precision 1/2 for 51 of 101 recalls: AP 51/202. Without the background: 51/101; with the
    # object that nothing is near left out: recall 1 at precision 1/2.
    one = match_image(image([(OBJECT, 0)], [(OBJECT, 0, 0.8)]))
    two = match_image(image([(OBJECT, 0)], [([50, 50, 60, 60], 0, 0.9)]))
    costs = analysis.error_costs([one, two], 1)
    assert costs["correct"] == (1, pytest.approx(100 * 51 / 202))
    assert costs["background"] == (1, pytest.approx(100 * 51 / 202))
    assert costs["missed"] == (1, pytest.approx(100 * (0.5 - 51 / 202)))
    assert all(costs[kind] == (0, 0.0) for kind in ("class", "location", "both", "duplicate"))


def test_class_and_place_put_right():
    wrong_class = match_image(image([(OBJECT, 0)], [(OBJECT, 1, 0.9), (NEAR, 1, 0.8)]))
    costs = analysis.error_costs([wrong_class], 2)
    assert costs["correct"] == (0, 0.0)
    assert costs["class"] == (2, pytest.approx(100.0))  # the second one goes
    wrong_place = match_image(image([(OBJECT, 0)], [(HALF, 0, 0.9)]))
    assert analysis.error_costs([wrong_place], 1)["location"] == (1, pytest.approx(100.0))
    # An object that is found already gains nothing but the loss of a false positive.
    found = match_image(image([(OBJECT, 0)], [(HALF, 0, 0.9), (OBJECT, 0, 0.8)]))
    assert analysis.error_costs([found], 1)["location"] == (1, pytest.approx(50.0))


def as_images(dataset: dict, detections: list[dict]):
    """Objects and detections, at most 100 of a class, as COCO's evaluation takes them."""
    index = {category: i for i, category in enumerate(CATEGORIES)}
    for row in dataset["images"]:
        own = [a for a in dataset["annotations"] if a["image_id"] == row["id"]]
        found = [d for d in detections if d["image_id"] == row["id"]]
        order = np.argsort([-d["score"] for d in found], kind="stable")
        kept, counts = [], {}
        for i in order:
            category = found[i]["category_id"]
            counts[category] = counts.get(category, 0) + 1
            if counts[category] <= 100:
                kept.append(found[i])

        def corners(box):
            return [box[0], box[1], box[0] + box[2], box[1] + box[3]]

        yield image(
            [(corners(a["bbox"]), index[a["category_id"]], bool(a["iscrowd"])) for a in own],
            [(corners(d["bbox"]), index[d["category_id"]], d["score"]) for d in kept],
        )


@pytest.mark.parametrize("seed", range(6))
def test_ap_is_that_of_coco(seed):
    dataset, detections = random_coco(seed)
    detections = [{k: v for k, v in d.items() if k in ("image_id", "category_id", "bbox", "score")}
                  for d in detections]  # fmt: skip
    expected = evaluate_predictions_on_coco(coco_api(dataset), detections, "bbox").stats[1]
    matched = [match_image(objects) for objects in as_images(dataset, detections)]
    costs = analysis.error_costs(matched, len(CATEGORIES))
    assert costs["correct"][1] == pytest.approx(100 * expected, abs=1e-9)
    assert all(gain >= -1e-9 for name, (_, gain) in costs.items() if name != "correct")
    wrong = sum(count for name, (count, _) in costs.items() if name not in ("correct", "missed"))
    counted = sum(int((m.kinds != analysis.IGNORED).sum()) for m in matched)
    assert wrong + costs["correct"][0] == counted


def test_precision_and_recall_by_threshold():
    matched = [
        match_image(image([(OBJECT, 0)], [(OBJECT, 0, 0.8), ([50, 50, 60, 60], 0, 0.4)])),
        match_image(image([(OBJECT, 0), ([50, 50, 60, 60], 1)], [])),
    ]
    thresholds = np.array([0.1, 0.5, 0.8, 0.9])
    precision, recall = analysis.scores_by_threshold(matched, 2, thresholds)
    np.testing.assert_equal(precision[0], [0.5, 1.0, 1.0, np.nan])
    np.testing.assert_equal(recall[0], [0.5, 0.5, 0.5, 0.0])
    np.testing.assert_equal(precision[1], [np.nan] * 4)
    np.testing.assert_equal(recall[1], [0.0] * 4)


def test_confusion_by_hand():
    matched = [
        match_image(
            image(
                [(OBJECT, 0), ([50, 50, 60, 60], 1)],
                [(OBJECT, 1, 0.9), ([50, 50, 60, 60], 1, 0.4), ([80, 80, 90, 90], 0, 0.6)],
            )
        )
    ]
    low, high = analysis.confusion_matrices(matched, 2, np.array([0.3, 0.5]))
    assert low.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert high.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_calibration_by_hand():
    matched = [
        match_image(image([(OBJECT, 0)], [(OBJECT, 0, 0.95), ([50, 50, 60, 60], 0, 0.91)])),
    ]
    rows = analysis.calibration(matched)
    assert rows[9] == (pytest.approx(0.93), 0.5, 2)
    assert rows[0][2] == 0 and np.isnan(rows[0][1])
