"""Weights of a torchvision Faster R-CNN on MobileNet features, for the model of this project."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_RPN = "proposal_generator.rpn_head"
_RENAMES = [
    (r"^backbone\.", "backbone.features."),
    (r"^rpn\.head\.conv\.(0\.0\.)?", f"{_RPN}.conv."),  # torchvision 0.15 nested it
    (r"^rpn\.head\.cls_logits\.", f"{_RPN}.objectness_logits."),
    (r"^rpn\.head\.bbox_pred\.", f"{_RPN}.anchor_deltas."),
    (r"^roi_heads\.box_head\.fc6\.", "roi_heads.box_head.fc1."),
    (r"^roi_heads\.box_head\.fc7\.", "roi_heads.box_head.fc2."),
]


def convert_faster_rcnn(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries, and move the background from the first class to the last.

    Args:
        weights: state dict of `torchvision.models.detection.FasterRCNN` whose backbone is the
            `features` of a MobileNet, with K + 1 classes.

    Returns:
        State dict for `configs/faster_rcnn_mobilenet_v2.yaml` with NUM_CLASSES K. It needs the
        anchors of `TorchvisionAnchorGenerator`.
    """
    converted = {}
    for name, value in weights.items():
        if name.startswith("roi_heads.box_predictor.cls_score."):
            value = torch.cat([value[1:], value[:1]])
        elif name.startswith("roi_heads.box_predictor.bbox_pred."):
            value = value[4:]  # no box is predicted for the background
        converted[_rename(name)] = value
    return converted


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name
