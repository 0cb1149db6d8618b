import pytest
import torch
import torchvision

from d2lite.export import exportable
from d2lite.export.patches import batched_nms_by_offset, clip_unchecked, length
from d2lite.modeling import poolers
from d2lite.structures import Boxes, Instances


def random_boxes(count):
    corners = torch.rand(count, 2) * 50
    return torch.cat([corners, corners + torch.rand(count, 2) * 30 + 1], dim=1)


@pytest.mark.parametrize("count", [0, 1, 60])
def test_nms_by_offset_is_torchvisions(count):
    boxes, scores = random_boxes(count), torch.rand(count)
    groups = torch.randint(0, 3, (count,))
    expected = torchvision.ops.batched_nms(boxes, scores, groups, 0.5)
    assert batched_nms_by_offset(boxes, scores, groups, 0.5).tolist() == expected.tolist()


def test_clip_is_that_of_boxes():
    tensor = torch.tensor([[-5.0, 3.0, 40.0, 9.0], [1.0, 2.0, 3.0, 99.0]])
    checked, unchecked = Boxes(tensor.clone()), Boxes(tensor.clone())
    checked.clip((20, 30))
    clip_unchecked(unchecked, (20, 30))
    assert unchecked.tensor.tolist() == checked.tensor.tolist()


def test_length_of_all_that_has_one():
    assert length([1, 2]) == 2
    assert length(torch.zeros(3, 4)) == 3
    assert length(Boxes(torch.zeros(5, 4))) == 5
    assert length(Instances((1, 1), scores=torch.zeros(6))) == 6


def test_everything_is_put_back():
    before = (Boxes.clip, torchvision.ops.boxes.batched_nms)
    with pytest.raises(KeyError), exportable():
        assert Boxes.clip is clip_unchecked
        assert poolers.len is length
        raise KeyError
    assert (Boxes.clip, torchvision.ops.boxes.batched_nms) == before
    assert not hasattr(poolers, "len")
