"""Pairs of detections in two frames."""

from typing import Any

from torch import Tensor

from d2lite.structures import Instances

LARGE_COST_VALUE = 100000
"""Cost of a pair that must not be matched."""


def create_prediction_pairs(
    instances: Instances, prev_instances: Instances, iou_all: Tensor, threshold: float = 0.5
) -> list[dict[str, Any]]:
    """Return the pairs of boxes of two frames that overlap enough, ordered by index.

    Args:
        instances: N detections of this frame.
        prev_instances: M objects of the previous frame, with `ID` and `ID_period`.
        iou_all: (N, M) IoU of their boxes.
        threshold: pairs with a lower IoU are left out.

    Returns:
        One dict per pair: `idx` and `prev_idx` in this frame and the previous one, `prev_id` and
        `prev_period` of the object, and the `IoU`.
    """
    assert iou_all.shape == (len(instances), len(prev_instances)), (
        f"IoU of shape {tuple(iou_all.shape)} for {len(instances)} and {len(prev_instances)} boxes"
    )
    near = (iou_all >= threshold).nonzero()
    overlaps = iou_all[near[:, 0], near[:, 1]].tolist()
    return [
        {
            "idx": index,
            "prev_idx": prev_index,
            "prev_id": prev_instances.ID[prev_index],
            "IoU": iou,
            "prev_period": prev_instances.ID_period[prev_index],
        }
        for (index, prev_index), iou in zip(near.tolist(), overlaps, strict=True)
    ]
