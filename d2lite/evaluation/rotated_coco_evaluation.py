"""COCO's AP for rotated boxes."""

import numpy as np
import torch
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from d2lite.evaluation.coco_evaluation import METRICS, COCOEvaluator
from d2lite.structures import (
    Boxes,
    BoxMode,
    RotatedBoxes,
    pairwise_iou,
    pairwise_iou_rotated,
)


class RotatedCOCOeval(COCOeval):
    """COCOeval that supports rotated boxes: (center x, center y, width, height, degrees)."""

    @staticmethod
    def is_rotated(box_list: list | np.ndarray | Tensor) -> bool:
        """Return whether the boxes have five numbers each. An empty list is not rotated."""
        return len(box_list) > 0 and all(len(box) == 5 for box in box_list)

    @staticmethod
    def boxlist_to_tensor(boxlist: list | np.ndarray | Tensor, output_box_dim: int) -> Tensor:
        """Return (N, 4) XYXY or (N, 5) rotated boxes as a float32 tensor.

        Args:
            boxlist: N boxes of the same kind; XYWH boxes if they have four numbers.
            output_box_dim: 4 or 5; boxes with four numbers can become five, not vice versa.
        """
        boxes = torch.as_tensor(np.asarray(boxlist, dtype=np.float64), dtype=torch.float32)
        boxes = boxes.reshape(len(boxlist), -1) if len(boxlist) else boxes.new_zeros(0, 4)
        if boxes.shape[1] == output_box_dim == 5:
            return boxes
        if boxes.shape[1] != 4 or output_box_dim not in (4, 5):
            raise ValueError(f"cannot turn boxes of {boxes.shape[1]} into {output_box_dim} numbers")
        mode = BoxMode.XYXY_ABS if output_box_dim == 4 else BoxMode.XYWHA_ABS
        return BoxMode.convert(boxes, BoxMode.XYWH_ABS, mode)

    def compute_iou_dt_gt(self, dt: list, gt: list, is_crowd: list[int]) -> np.ndarray:
        """Return the (N, M) IoU of detected and true boxes; for crowds, over the detection only."""
        if self.is_rotated(dt) or self.is_rotated(gt):
            found = RotatedBoxes(self.boxlist_to_tensor(dt, 5))
            true = RotatedBoxes(self.boxlist_to_tensor(gt, 5))
            iou = pairwise_iou_rotated(found, true)
        else:
            found = Boxes(self.boxlist_to_tensor(dt, 4))
            true = Boxes(self.boxlist_to_tensor(gt, 4))
            iou = pairwise_iou(found, true)
        crowd = torch.as_tensor(is_crowd, dtype=torch.bool)
        if crowd.any():
            total = found.area()[:, None] + true.area()[None]
            share = iou * total / (1 + iou) / found.area()[:, None].clamp(min=1e-9)
            iou = torch.where(crowd[None], share, iou)
        return iou.double().numpy()

    def computeIoU(self, imgId: int, catId: int) -> np.ndarray | list:
        """Return the IoU of detections, best first, with objects of one image and category."""
        p = self.params
        if p.useCats:
            gt, dt = self._gts[imgId, catId], self._dts[imgId, catId]
        else:
            gt = [g for c in p.catIds for g in self._gts[imgId, c]]
            dt = [d for c in p.catIds for d in self._dts[imgId, c]]
        if not gt or not dt:
            return []
        order = np.argsort([-d["score"] for d in dt], kind="mergesort")[: p.maxDets[-1]]
        crowd = [int(g.get("iscrowd", 0)) for g in gt]
        boxes = [dt[i]["bbox"] for i in order]
        return self.compute_iou_dt_gt(boxes, [g["bbox"] for g in gt], crowd)


class RotatedCOCOEvaluator(COCOEvaluator):
    """COCOEvaluator for rotated boxes, predicted or true; its only task is "bbox"."""

    _metrics = {"bbox": METRICS["bbox"]}

    @property
    def _cocoeval_fn(self) -> type[COCOeval]:
        return RotatedCOCOeval
