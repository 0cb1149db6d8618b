"""Translation of the names of released RetinaFace weights."""

import logging
import re
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)

_BODY = "backbone.bottom_up."
_SSH = {
    "conv3X3": "conv3x3",
    "conv5X5_1": "shared",
    "conv5X5_2": "conv5x5",
    "conv7X7_2": "conv7x7_1",
    "conv7x7_3": "conv7x7_2",
}
_HEADS = {"ClassHead": "cls_score", "BboxHead": "bbox_pred", "LandmarkHead": "landmark_pred"}
# In a stage, a block is a Sequential: depthwise, norm, ReLU, pointwise, norm, ReLU.
_PARTS = {"0": "depthwise.", "1": "depthwise.norm.", "3": "pointwise.", "4": "pointwise.norm."}
_CONV_NORM = {"0": "", "1": "norm."}


def released_name(name: str) -> str | None:
    """Return our name of an entry of the released MobileNet-0.25 weights; None for others."""
    name = name.removeprefix("module.")
    if match := re.fullmatch(r"body\.stage1\.0\.([01])\.(.+)", name):  # the stem
        return f"{_BODY}stage1.0.{_CONV_NORM[match[1]]}{match[2]}"
    if match := re.fullmatch(r"body\.(stage\d\.\d+)\.([0134])\.(.+)", name):
        return f"{_BODY}{match[1]}.{_PARTS[match[2]]}{match[3]}"
    if match := re.fullmatch(r"fpn\.(output|merge)(\d)\.([01])\.(.+)", name):
        part = {"output": "laterals", "merge": "merges"}[match[1]]
        return f"backbone.{part}.{int(match[2]) - 1}.{_CONV_NORM[match[3]]}{match[4]}"
    if match := re.fullmatch(r"ssh(\d)\.(conv\w+)\.([01])\.(.+)", name):
        context = f"backbone.contexts.{int(match[1]) - 1}.{_SSH[match[2]]}"
        return f"{context}.{_CONV_NORM[match[3]]}{match[4]}"
    if match := re.fullmatch(r"(\w+Head)\.(\d)\.conv1x1\.(.+)", name):
        return f"head.{_HEADS[match[1]]}.{match[2]}.{match[3]}"
    return None


def accept_released_names(model: nn.Module) -> None:
    """Make `model.load_state_dict` accept released weights.

    Entries whose shape differs from the model's, such as heads for another number of classes, keep
    their names: a checkpointer then reports them as unexpected, and the model's as missing.
    """
    model.register_load_state_dict_pre_hook(_rename)


def _rename(model: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    if not any(name.startswith(f"{prefix}body.stage1.") for name in state_dict):
        return
    own = model.state_dict()
    for name in list(state_dict):
        ours = released_name(name.removeprefix(prefix))
        if ours in own and own[ours].shape == state_dict[name].shape:
            state_dict[prefix + ours] = state_dict.pop(name)
    logger.info("Weights of a released RetinaFace were renamed")
