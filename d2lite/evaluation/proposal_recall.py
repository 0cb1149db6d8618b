"""Average recall of class-agnostic box proposals."""

from collections.abc import Callable

import torch
from torch import Tensor

from d2lite.structures import Boxes, BoxMode, pairwise_iou

AREA_RANGES = {  # square pixels
    "all": (0**2, 1e5**2),
    "small": (0**2, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
    "96-128": (96**2, 128**2),
    "128-256": (128**2, 256**2),
    "256-512": (256**2, 512**2),
    "512-inf": (512**2, 1e5**2),
}


AnnotationsOf = Callable[[int], list[dict]]  # image id -> annotations in COCO's format


def average_recalls(predictions: list[dict], annotations_of: AnnotationsOf) -> dict[str, float]:
    """Return the average recall in percent of the best 100 and 1000 proposals: AR@100, ..."""
    recalls = {}
    for name, (area, limit) in recall_names().items():
        stats = box_proposal_recall(predictions, annotations_of, area=area, limit=limit)
        recalls[name] = float(stats["ar"].item() * 100)
    return recalls


def recall_names() -> dict[str, tuple[str, int]]:
    """Return the names of the average recalls, with their area range and number of proposals."""
    suffixes = {"all": "", "small": "s", "medium": "m", "large": "l"}
    return {
        f"AR{suffix}@{limit:d}": (area, limit)
        for limit in (100, 1000)
        for area, suffix in suffixes.items()
    }


def box_proposal_recall(
    predictions: list[dict],
    annotations_of: AnnotationsOf,
    thresholds: Tensor | None = None,
    area: str = "all",
    limit: int | None = None,
) -> dict:
    """Compute how well the best `limit` proposals of each image cover its objects.

    Args:
        predictions: dicts with "image_id" and "proposals": Instances with `proposal_boxes` and
            `objectness_logits`.
        thresholds: (T,) IoUs; default 0.5 to 0.95 in steps of 0.05.
        area: only objects of this size, a key of `AREA_RANGES`.
    Returns:
        "ar": mean of "recalls" (T,) over "thresholds"; "gt_overlaps": IoU of each object with its
        proposal, ascending; "num_pos": number of objects.
    """
    if area not in AREA_RANGES:
        raise ValueError(f"unknown area range {area!r}; use one of {list(AREA_RANGES)}")
    if thresholds is None:
        thresholds = torch.arange(0.5, 0.95 + 1e-5, 0.05, dtype=torch.float32)
    covers, num_objects = [], 0
    for prediction in predictions:
        objects = _objects(annotations_of(prediction["image_id"]), AREA_RANGES[area])
        num_objects += len(objects)
        covers.append(_cover(prediction["proposals"], objects, limit))
    overlaps = torch.cat(covers).sort().values if covers else torch.zeros(0)
    reached = (overlaps[None] >= thresholds[:, None]).sum(dim=1).float()
    recalls = reached / num_objects if num_objects else torch.full_like(thresholds, float("nan"))
    return {
        "ar": recalls.mean(),
        "recalls": recalls,
        "thresholds": thresholds,
        "gt_overlaps": overlaps,
        "num_pos": num_objects,
    }


def _objects(anns: list[dict], area_range: tuple[float, float]) -> Boxes:
    """Return the boxes of the objects in the area range, without crowds."""
    low, high = area_range
    anns = [a for a in anns if a.get("iscrowd", 0) == 0 and low <= a["area"] <= high]
    boxes = [BoxMode.convert(a["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) for a in anns]
    return Boxes(torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4))


def _cover(proposals, objects: Boxes, limit: int | None) -> Tensor:
    """Return the (M,) IoU of each object with its assigned proposal.

    Greedy matching, best pair first; each proposal covers at most one object.
    """
    cover = torch.zeros(len(objects))
    order = proposals.objectness_logits.sort(descending=True).indices[:limit]
    boxes = proposals.proposal_boxes[order]
    if not len(boxes) or not len(objects):
        return cover
    overlaps = pairwise_iou(boxes, objects)  # (R, M)
    for _ in range(min(len(boxes), len(objects))):
        best, proposal_of = overlaps.max(dim=0)  # (M,), (M,)
        index = int(best.argmax())
        cover[index] = best[index]
        overlaps[proposal_of[index], :] = -1
        overlaps[:, index] = -1
    return cover
