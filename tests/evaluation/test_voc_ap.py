"""VOC's rules, worked by hand."""

import numpy as np
import pytest

from d2lite.evaluation.pascal_voc_evaluation import parse_rec, voc_ap, voc_eval
from d2lite.evaluation.voc_ap import VocDetections, VocObjects, average_precision

XML = """<annotation><object><name>cat</name><difficult>{difficult}</difficult>
<bndbox><xmin>{x}</xmin><ymin>1</ymin><xmax>10</xmax><ymax>10</ymax></bndbox></object></annotation>"""


def objects(*boxes, difficult=None):
    flags = np.array(difficult or [False] * len(boxes), dtype=bool)
    return VocObjects(np.array(boxes, dtype=float).reshape(-1, 4), flags)


def detections(*rows):
    """rows: (image, score, xmin, ymin, xmax, ymax)"""
    figures = np.array([row[1:] for row in rows], dtype=float).reshape(-1, 5)
    return VocDetections([row[0] for row in rows], figures[:, 0], figures[:, 1:])


def test_precision_and_recall_after_each_detection():
    truth = {"a": objects((1, 1, 10, 10), (20, 20, 29, 29)), "b": objects()}
    found = detections(
        ("a", 0.5, 20, 20, 29, 29),  # right
        ("a", 0.9, 1, 1, 10, 10),  # right
        ("a", 0.8, 1, 1, 10, 11),  # the same object again: wrong
        ("b", 0.7, 1, 1, 10, 10),  # nothing there: wrong
    )
    recall, precision, ap = average_precision(found, truth, 0.5)
    np.testing.assert_allclose(recall, [0.5, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(precision, [1, 1 / 2, 1 / 3, 1 / 2])
    assert ap == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    eleven = average_precision(found, truth, 0.5, use_07_metric=True)[2]
    assert eleven == pytest.approx((6 * 1 + 5 * 0.5) / 11)


def test_boxes_count_pixels():
    # A box from 1 to 1 is one pixel: 1 x 1 over 1 x 2.
    truth = {"a": objects((1, 1, 1, 2))}
    found = detections(("a", 1.0, 1, 1, 1, 1))
    assert average_precision(found, truth, 0.49)[2] == 1
    assert average_precision(found, truth, 0.5)[2] == 0  # it has to be more


def test_difficult_objects_are_neither_missed_nor_wrong():
    truth = {"a": objects((1, 1, 10, 10), (20, 20, 29, 29), difficult=[True, False])}
    found = detections(("a", 0.9, 1, 1, 10, 10), ("a", 0.8, 20, 20, 29, 29))
    recall, precision, ap = average_precision(found, truth, 0.5)
    np.testing.assert_allclose(recall, [0, 1])
    np.testing.assert_allclose(precision, [0, 1])
    assert ap == 1


def test_no_detections_and_no_objects():
    assert average_precision(detections(), {"a": objects((1, 1, 5, 5))}, 0.5)[2] == 0
    assert np.isnan(average_precision(detections(), {"a": objects()}, 0.5)[2])


def test_area_under_a_curve_that_is_made_to_fall():
    assert voc_ap(np.array([0.5, 1.0]), np.array([0.2, 0.4])) == pytest.approx(0.4)
    assert voc_ap(np.array([0.5]), np.array([1.0]), True) == pytest.approx(6 / 11)


def test_files_are_evaluated(tmp_path):
    (tmp_path / "1.xml").write_text(XML.format(x=1, difficult=0))
    (tmp_path / "2.xml").write_text(XML.format(x=10, difficult=0))  # without area: left out
    (tmp_path / "set.txt").write_text("1\n2\n")
    (tmp_path / "det_cat.txt").write_text("1 0.9 1 1 10 10\n2 0.8 1 1 10 10\n")
    recall, precision, ap = voc_eval(
        f"{tmp_path}/det_{{}}.txt", f"{tmp_path}/{{}}.xml", str(tmp_path / "set.txt"), "cat"
    )
    assert recall.tolist() == [1, 1] and precision.tolist() == [1, 0.5] and ap == 1
    assert parse_rec(str(tmp_path / "1.xml"))[0]["bbox"] == [1, 1, 10, 10]
    assert parse_rec(str(tmp_path / "2.xml")) == []


def test_detection_on_an_image_outside_the_set_is_named():
    with pytest.raises(KeyError, match="image 'z' has detections"):
        average_precision(detections(("z", 1, 1, 1, 2, 2)), {"a": objects()}, 0.5)
