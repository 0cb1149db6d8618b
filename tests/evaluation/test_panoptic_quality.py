"""Panoptic quality, worked by hand."""

import numpy as np
import pytest

from d2lite.evaluation.panoptic_quality import PanopticQuality

TRUE = np.zeros((10, 10), np.int64)
TRUE[:, :4], TRUE[:, 4:8] = 1, 2  # two segments of 40 pixels; 20 pixels without a label


def segments(**categories):
    return [{"id": int(k[1:]), "category_id": c} for k, c in categories.items()]


def quality(pred, pred_segments, true=TRUE, true_segments=None):
    result = PanopticQuality([1, 2])
    result.add(true, true_segments or segments(s1=1, s2=2), pred, pred_segments)
    return result


def test_perfect():
    result = quality(TRUE, segments(s1=1, s2=2))
    assert result.average([1, 2]) == {"pq": 1, "sq": 1, "rq": 1, "n": 2}


def test_partial_overlap_worked_by_hand():
    # Segment 1 predicted on columns 0-2: IoU 30/40. Segment 2 missed, its place called 1 as well.
    pred = np.zeros_like(TRUE)
    pred[:, :3], pred[:, 4:8] = 5, 6
    result = quality(pred, segments(s5=1, s6=1))
    assert result.counts[1].quality() == pytest.approx((0.75 / 1.5, 0.75, 1 / 1.5))
    assert result.counts[2].quality() == (0, 0, 0)
    assert result.average([1, 2])["pq"] == pytest.approx(0.25)


def test_half_is_no_match():
    pred = np.zeros_like(TRUE)
    pred[:, :2] = 5  # 20 of 40
    result = quality(pred, segments(s5=1))
    assert (result.counts[1].matched, result.counts[1].only_predicted) == (0, 1)
    assert result.counts[1].only_true == result.counts[2].only_true == 1


def test_pixels_without_a_label_do_not_count_against_a_prediction():
    pred = TRUE.copy()
    pred[:, 8:] = 2  # reaches into the unlabeled part
    pred[0, 4:] = 7
    result = quality(pred, [*segments(s1=1, s2=2), {"id": 7, "category_id": 2}])
    # Segment 2: 36 of 40 pixels. Segment 7: 4 of its 6 pixels are labeled, so it is wrong.
    assert result.counts[2].iou == pytest.approx(36 / 40)
    assert result.counts[2].only_predicted == 1
    pred[0, 4:8] = 2  # now segment 7 has only its unlabeled pixels
    result = quality(pred, [*segments(s1=1, s2=2), {"id": 7, "category_id": 2}])
    assert result.counts[2].only_predicted == 0


def test_crowds_need_not_be_found_nor_are_wrong_to_find():
    true_segments = [{"id": 1, "category_id": 1, "iscrowd": 1}, {"id": 2, "category_id": 2}]
    pred = TRUE.copy()
    pred[:, :2] = 8  # a person in the crowd
    both = quality(pred, segments(s1=1, s8=1, s2=2), true_segments=true_segments)
    assert both.counts[1].quality() is None
    none = quality(np.where(TRUE == 2, 2, 0), segments(s2=2), true_segments=true_segments)
    assert none.counts[1].quality() is None
    assert none.average([1, 2]) == {"pq": 1, "sq": 1, "rq": 1, "n": 1}


def test_nothing_at_all():
    assert PanopticQuality([1]).average([1]) == {"pq": 0, "sq": 0, "rq": 0, "n": 0}


@pytest.mark.parametrize(
    "pred_segments, message",
    [
        (segments(s1=1), "segment 2 has pixels, but is not in the list"),
        (segments(s1=1, s2=2, s3=2), "segment 3 is in the list, but has no pixel"),
        (segments(s1=1, s2=9), "segment 2 has category 9"),
    ],
)
def test_inconsistent_predictions_are_named(pred_segments, message):
    with pytest.raises(ValueError, match=message):
        quality(TRUE, pred_segments)
