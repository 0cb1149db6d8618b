"""Values of single annotations; faults of whole files are in tests/test_data_problems.py."""

import numpy as np
import pycocotools.mask as mask_util
import pytest

from d2lite.data.annotations import AnnotationError, _run_lengths, normalize_annotation
from d2lite.structures import BoxMode

SIZE = (40, 60)


def run_lengths_by_hand(mask):
    """Column by column, zeros first."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_run_lengths_of_compressed_masks(density):
    rng = np.random.default_rng(0)
    for _ in range(10):
        mask = (rng.random(rng.integers(1, 300, 2)) < density).astype(np.uint8)
        rle = mask_util.encode(np.asfortranarray(mask))
        for counts in (rle["counts"], rle["counts"].decode()):
            assert _run_lengths(counts).tolist() == run_lengths_by_hand(mask)


@pytest.mark.parametrize("text", ["", "o", "\u00e9", "zzzzzzzzzz0", b"\xff"])
def test_text_that_is_no_rle(text):
    assert _run_lengths(text) is None


def test_a_good_annotation_is_the_same_object():
    good = {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "own": "x"}
    assert normalize_annotation(good, SIZE) is good
    assert normalize_annotation(good, None) is good


def test_whole_floats_become_integers_and_empty_fields_go():
    found = normalize_annotation(
        {"category_id": 2.0, "iscrowd": np.float32(1), "segmentation": [], "area": None}, SIZE
    )
    assert found == {"category_id": 2, "iscrowd": 1}


def test_uncompressed_masks_are_compressed():
    mask = np.zeros(SIZE, np.uint8)
    mask[5:9, 7:20] = 1
    rle = {"size": list(SIZE), "counts": run_lengths_by_hand(mask)}
    found = normalize_annotation({"segmentation": rle}, SIZE)["segmentation"]
    np.testing.assert_array_equal(mask_util.decode(found), mask)


def test_what_only_another_mapper_understands_is_left_as_it_is():
    own = {"bbox": "packed", "category_id": [1, 2], "pointer": object()}
    assert normalize_annotation(own, SIZE) is own


@pytest.mark.parametrize(
    "box, reason",
    [
        ([30, 20, 10, 4, 45], None),
        ([-3, 20, 8, 2, 0], None),  # reaches into the image
        ([-30, 20, 10, 4, 45], "a box outside of the image"),
        ([30, 20, 0, 4, 45], "a box without area"),
    ],
)
def test_rotated_boxes(box, reason):
    found = normalize_annotation({"bbox": box, "bbox_mode": BoxMode.XYWHA_ABS}, SIZE)
    assert found == reason if reason else found["bbox"] == box


def test_boxes_of_arrays_are_checked_too():
    good = {"bbox": np.array([1.0, 2, 3, 4]), "bbox_mode": BoxMode.XYXY_ABS}
    assert normalize_annotation(good, SIZE) is good
    bad = {"bbox": np.array([1.0, 2, np.inf, 4]), "bbox_mode": BoxMode.XYXY_ABS}
    with pytest.raises(AnnotationError, match=r"has bbox .*inf"):
        normalize_annotation(bad, SIZE)
