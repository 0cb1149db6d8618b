import numpy as np
import pytest
import torch

from d2lite.checkpoint.reading import read_checkpoint_file
from d2lite.checkpoint.writing import save_checkpoint_file
from d2lite.engine.batch_values import from_plain, to_plain
from d2lite.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    ImageList,
    Instances,
    Keypoints,
    PolygonMasks,
    ROIMasks,
    RotatedBoxes,
)

SQUARE = [0.0, 0.0, 4.0, 0.0, 4.0, 4.0]


def a_batch():
    instances = Instances((8, 9))
    instances.gt_boxes = Boxes(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    instances.gt_rotated = RotatedBoxes(torch.ones(1, 5))
    instances.gt_masks = PolygonMasks([[SQUARE]])
    instances.gt_bitmasks = BitMasks(torch.eye(4, dtype=torch.bool)[None])
    instances.gt_roi_masks = ROIMasks(torch.full((1, 2, 2), 0.3))
    instances.gt_keypoints = Keypoints(torch.full((1, 2, 3), 0.7))
    instances.names = ["cat"]
    annotation = {
        "bbox": np.array([1.0, 2.0]),
        "bbox_mode": BoxMode.XYWH_ABS,
        "area": np.float32(2),
    }
    return [
        {
            "file_name": "a.jpg",
            "image": torch.arange(24, dtype=torch.uint8).reshape(1, 4, 6),
            "deep": torch.arange(4, dtype=torch.int32).to(torch.uint16),
            "instances": instances,
            "annotations": [annotation],
            "size": (4, 6),
            "images": ImageList(torch.zeros(1, 3, 4, 6), [(4, 6)]),
            "none": None,
        }
    ]


def same(one, two):
    if isinstance(one, Instances):
        assert one.image_size == two.image_size
        same(one.get_fields(), two.get_fields())
    elif isinstance(one, dict):
        assert list(one) == list(two)
        for key in one:
            same(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two) and type(one) is type(two)
        for a, b in zip(one, two, strict=True):
            same(a, b)
    elif isinstance(one, torch.Tensor):
        assert one.dtype == two.dtype and torch.equal(one, two)
    elif isinstance(one, np.ndarray):
        assert one.dtype == two.dtype and np.array_equal(one, two)
    elif hasattr(one, "__dict__"):
        assert type(one) is type(two)
        same(vars(one), vars(two))
    else:
        assert one == two


@pytest.mark.parametrize("read", [read_checkpoint_file, lambda p: torch.load(p, weights_only=True)])
def test_a_batch_comes_back_from_a_file(tmp_path, read):
    plain, lost = to_plain(a_batch())
    assert lost == []
    save_checkpoint_file({"batch": plain}, tmp_path / "batch.pth")
    same(a_batch(), from_plain(read(tmp_path / "batch.pth")["batch"]))


def test_other_objects_are_left_out_and_named():
    plain, lost = to_plain([{"x": 1, "y": {1, 2}, "z": object()}])
    assert lost == ["builtins.set", "builtins.object"]
    assert from_plain(plain) == [{"x": 1, "y": None, "z": None}]


@pytest.mark.parametrize(
    "plain, message", [([1], "a list where"), (("os.system", "ls"), "unknown kind 'os.system'")]
)
def test_what_is_not_a_batch_is_refused(plain, message):
    with pytest.raises(ValueError, match=message):
        from_plain(plain)
