"""Labeled points relative to the boxes of proposals."""

from collections.abc import Sequence

import torch
from torch import Tensor

from d2lite.structures import Instances


def get_point_coords_from_point_annotation(
    instances: Sequence[Instances],
) -> tuple[Tensor, Tensor]:
    """Return the labeled points of each proposal's object, relative to the proposal.

    Args:
        instances: per image, with `proposal_boxes`, `gt_point_coords` and `gt_point_labels`; R
            in total.

    Returns:
        (R, P, 2) points, in [0, 1] within the box; and their (R, P) labels, -1 for points outside
        of the box, which its mask does not cover.
    """
    coords, labels = [], []
    for x in instances:
        if len(x) == 0:  # may lack the points
            continue
        boxes = x.proposal_boxes.tensor
        points = get_point_coords_wrt_box(boxes, x.gt_point_coords.to(torch.float32))
        inside = ((points >= 0) & (points <= 1)).all(dim=2)
        coords.append(points.nan_to_num(0.0, 0.0, 0.0))  # of boxes without area, not trained
        labels.append(x.gt_point_labels.to(torch.float32).masked_fill(~inside, -1.0))
    if not coords:
        device = instances[0].proposal_boxes.device
        return torch.zeros(0, 1, 2, device=device), torch.zeros(0, 1, device=device)
    return torch.cat(coords), torch.cat(labels)


@torch.no_grad()
def get_point_coords_wrt_box(boxes_coords: Tensor, point_coords: Tensor) -> Tensor:
    """Convert points in pixels of the image to points relative to boxes.

    Args:
        boxes_coords: (R, 4) XYXY.
        point_coords: (R, P, 2) of x and y.

    Returns:
        (R, P, 2), in [0, 1] within the box.
    """
    corner, opposite = boxes_coords[:, None, :2], boxes_coords[:, None, 2:]
    return (point_coords - corner) / (opposite - corner)
