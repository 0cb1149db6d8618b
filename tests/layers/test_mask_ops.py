"""Pasting masks: detectron2's figures, a second implementation, and cases by hand."""

import pytest
import torch
from torch.nn import functional as F

from d2lite.layers import mask_ops, paste_masks_in_image
from d2lite.layers.mask_ops import pad_masks, paste_mask_in_image_old, scale_boxes
from tests.golden import load_case

CASE = load_case("masks.paste")


@pytest.mark.parametrize("threshold", CASE.params["thresholds"])
def test_golden(threshold):
    size = tuple(CASE.params["image_size"])
    got = paste_masks_in_image(CASE.tensor("masks"), CASE.tensor("boxes"), size, threshold)
    assert str(got.dtype) == f"torch.{CASE.outputs['dtypes'][str(threshold)]}"
    CASE.check(f"pasted_{threshold}", got.to(torch.uint8))


def sampled(mask, box, height, width):
    """The same by torch's grid_sample, without the limit to the pixels near the box."""
    y = (torch.arange(height) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
    x = (torch.arange(width) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
    grid = torch.stack([x[None].expand(height, -1), y[:, None].expand(-1, width)], dim=-1)
    return F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]


@pytest.mark.parametrize("whole_images", [False, True])
def test_soft_values_are_those_of_grid_sample(monkeypatch, whole_images):
    masks = torch.rand(5, 7, 7, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor(
        [[3.0, 4, 15, 12], [-4, -3, 9, 8.5], [2.2, 3.3, 40, 30], [0.1, 0.2, 1, 1], [1, 1, 6, 20]]
    )
    if whole_images:
        monkeypatch.setattr(mask_ops, "_paste_one_by_one", mask_ops._paste_whole_images)
        monkeypatch.setattr(mask_ops, "GPU_MEM_LIMIT", 16 * 20 * 24)  # two masks at a time
    got = paste_masks_in_image(masks, boxes, (20, 24), threshold=-1)
    for mask, box, pasted in zip(masks, boxes, got, strict=True):
        x0, y0 = (box[:2].floor() - 1).clamp(min=0).int().tolist()
        x1, y1 = (box[2:].ceil() + 1).int().tolist()
        want = torch.zeros(20, 24)
        want[y0:y1, x0:x1] = sampled(mask, box, 20, 24)[y0:y1, x0:x1]
        torch.testing.assert_close(pasted.float(), want * 255, rtol=0, atol=1.01)


def test_full_mask_fills_its_box():
    got = paste_masks_in_image(torch.ones(1, 4, 4), torch.tensor([[2.0, 1, 5, 3]]), (6, 7))
    want = torch.zeros(6, 7, dtype=torch.bool)
    want[1:3, 2:5] = True
    assert torch.equal(got[0], want)


@pytest.mark.parametrize("box", [(30.0, 30, 40, 40), (-20.0, -20, -10, -10), (7.0, 7, 1, 1)])
def test_box_outside_of_the_image_or_inside_out_leaves_nothing(box):
    assert not paste_masks_in_image(torch.ones(1, 4, 4), torch.tensor([box]), (8, 9)).any()


def test_no_masks():
    assert paste_masks_in_image(torch.zeros(0, 4, 4), torch.zeros(0, 4), (8, 9)).shape == (0, 8, 9)


def test_masks_must_be_square():
    with pytest.raises(ValueError, match="square"):
        paste_masks_in_image(torch.zeros(1, 4, 5), torch.zeros(1, 4), (8, 9))


def test_old_paste_counts_the_last_pixel_and_cuts_at_the_border():
    got = paste_mask_in_image_old(torch.ones(4, 4), torch.tensor([-1.0, 1.9, 2.0, 3.0]), 6, 7, 0.5)
    want = torch.zeros(6, 7, dtype=torch.uint8)
    want[1:4, 0:3] = 1
    assert torch.equal(got, want)
    soft = paste_mask_in_image_old(torch.ones(4, 4), torch.tensor([9.0, 9, 12, 12]), 6, 7, -1)
    assert not soft.any()


def test_padding_and_scaling_go_together():
    padded, scale = pad_masks(torch.ones(2, 4, 4), 1)
    assert padded.shape == (2, 6, 6)
    assert padded.sum() == 2 * 16
    assert scale == 1.5
    boxes = scale_boxes(torch.tensor([[0.0, 2, 4, 10]]), scale)
    assert boxes.tolist() == [[-1.0, 0, 5, 12]]
