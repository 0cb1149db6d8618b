"""Proposals and ground truth of a small image."""

import torch

from d2lite.structures import BitMasks, Boxes, Instances, Keypoints

SIZE = (32, 32)
K = 3  # classes; also the label of the background


def boxes(*rows: tuple[float, float, float, float]) -> Boxes:
    return Boxes(torch.tensor(rows, dtype=torch.float32).view(-1, 4))


def given_proposals(*rows) -> Instances:
    return Instances(SIZE, proposal_boxes=boxes(*rows), objectness_logits=torch.zeros(len(rows)))


def target() -> Instances:
    """One object of class 2 with a mask and two keypoints."""
    return Instances(
        SIZE,
        gt_boxes=boxes((0, 0, 16, 16)),
        gt_classes=torch.tensor([2]),
        gt_masks=BitMasks(torch.ones(1, *SIZE, dtype=torch.bool)),
        gt_keypoints=Keypoints(torch.tensor([[[4.0, 4.0, 2.0], [8.0, 8.0, 2.0]]])),
    )


def no_objects() -> Instances:
    return Instances(SIZE, gt_boxes=boxes(), gt_classes=torch.zeros(0, dtype=torch.int64))
