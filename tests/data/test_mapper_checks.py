"""What the mapper needs of dataset dicts is checked before the first sample."""

import numpy as np
import pytest
from PIL import Image

from d2lite.data import DatasetMapper
from d2lite.data.ground_truth import NormalizedDicts
from d2lite.data.image_io import SizeMismatchError
from d2lite.data.mapper_checks import check_for_mapper, check_image_sizes
from d2lite.structures import BoxMode

MASK = [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]


def thing(**more) -> dict:
    return {"bbox": [1, 1, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, **more}


@pytest.fixture
def image(tmp_path):
    """A function that returns the dict of an image of 20 x 30 with some annotations."""

    def make(*annotations, name="a.png", **more):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / name)
        return {"file_name": str(tmp_path / name), "annotations": list(annotations), **more}

    return make


def check(*records, tolerant=False, **needs):
    settings = {"is_train": True, "augmentations": [], "image_format": "BGR", **needs}
    dicts = NormalizedDicts(list(records), ["one", "two"])
    check_for_mapper(dicts, DatasetMapper(**settings), tolerant=tolerant)


def test_good_dicts_pass(image):
    full = thing(segmentation=MASK, keypoints=[1, 1, 2])
    check(image(full, height=20, width=30), use_instance_mask=True, use_keypoint=True)
    check()


@pytest.mark.parametrize("key", ["bbox", "bbox_mode", "category_id"])
def test_annotations_need_a_box_and_a_class(image, key):
    without = {k: v for k, v in thing().items() if k != key}
    with pytest.raises(ValueError, match=rf"b\.png: annotation number 1 has no '{key}'"):
        check(image(thing()), image(thing(), without, name="b.png"))
    check(image({**without, "iscrowd": 1}))  # crowds are not trained on
    check(image(without), is_train=False)


@pytest.mark.parametrize(
    "things, needs, message",
    [
        (
            [thing(segmentation=MASK), thing()],
            {"use_instance_mask": True},
            r"1 of the 2 annotations have no 'segmentation', the first is .*a\.png: "
            "annotation number 1; .* MODEL.MASK_ON",
        ),
        (
            [thing(segmentation={"size": [20, 30], "counts": b""})],
            {"use_instance_mask": True},
            r"MASK_FORMAT is 'polygon', but 1 of the 1 masks .* set INPUT\.MASK_FORMAT bitmask",
        ),
        (
            [thing(segmentation=MASK)],
            {"use_instance_mask": True, "instance_mask_format": "rle"},
            r"INPUT\.MASK_FORMAT is 'rle'; use 'polygon' or 'bitmask'",
        ),
        (
            [thing(keypoints=[1, 1, 2]), thing()],
            {"use_keypoint": True},
            r"KEYPOINT_ON is True, but .*annotation number 1 has no 'keypoints'",
        ),
        (
            [thing(keypoints=[1, 1, 2]), thing(keypoints=[1, 1, 2] * 2)],
            {"use_keypoint": True},
            "annotation number 1 has 2 keypoints, but others have 1; all objects must have",
        ),
        (
            [thing(keypoints=[1, 1, 2])],
            {"use_keypoint": True, "keypoint_hflip_indices": np.array([1, 0])},
            "number 0 has 1 keypoints, but keypoint_names in the metadata have 2",
        ),
    ],
)
def test_annotations_need_what_the_model_does(image, things, needs, message):
    with pytest.raises(ValueError, match=message):
        check(image(*things), **needs)
    check(image(*things))  # a model of boxes needs neither


def test_run_lengths_are_bitmasks(image):
    rle = thing(segmentation={"size": [20, 30], "counts": b""})
    check(image(rle), use_instance_mask=True, instance_mask_format="bitmask")


def test_dicts_need_a_file_name(image):
    with pytest.raises(ValueError, match="one, two: the dict of image number 1 has no 'file_name'"):
        check(image(), {"image_id": 3})


def test_missing_images_are_named(image):
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        check({"file_name": "none.png", "annotations": []}, image())


WRONG = {"height": 30, "width": 30}


def test_sizes_are_compared_with_the_files(image, caplog):
    message = r"b\.png: the image is 20 x 30 .* its dataset says 30 x 30"
    with pytest.raises(SizeMismatchError, match=message):
        check_image_sizes([image(height=20, width=30), image(name="b.png", **WRONG)])
    records = [image(name="b.png", **WRONG), image(name="c.png", **WRONG)]
    check_image_sizes(records, tolerant=True)
    assert "b.png: the image is 20 x 30" in caplog.text and "c.png" not in caplog.text


def test_label_images_have_the_size_of_their_image(image, tmp_path):
    Image.fromarray(np.zeros((20, 31), np.uint8)).save(tmp_path / "labels.png")
    record = image(sem_seg_file_name=str(tmp_path / "labels.png"))
    with pytest.raises(SizeMismatchError, match=r"labels\.png: the label image is 20 x 31"):
        check_image_sizes([record])


def test_files_that_cannot_be_read_are_left_to_the_loader(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    check_image_sizes([{"file_name": str(tmp_path / "text.png"), **WRONG}])
    check_image_sizes([{"file_name": "https://a.org/b.png", **WRONG}, {"file_name": "none.png"}])


@pytest.mark.parametrize("number, read", [(3, [0, 1, 2]), (10, [0, 2, 5, 7])])
def test_a_sample_of_large_datasets_is_read_evenly(monkeypatch, number, read):
    seen = []
    monkeypatch.setattr("d2lite.data.mapper_checks.MAX_SIZES_READ", 4)
    monkeypatch.setattr("d2lite.data.mapper_checks._size_or_none", seen.append)
    check_image_sizes([{"file_name": f"{i}.png", **WRONG} for i in range(number)])
    assert [int(name[:-4]) for name in seen if name] == read
