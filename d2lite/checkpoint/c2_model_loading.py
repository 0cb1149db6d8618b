"""Rename the weights in a checkpoint to the model's names: Caffe2 names, and matching by suffix.

torchvision's names are converted in `torchvision_loading.py`; `DetectionCheckpointer` decides which
of them a file needs.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from d2lite.checkpoint.report import group_names

logger = logging.getLogger(__name__)

# Applied in this order, after every "_" was replaced by ".".
_BASIC_RENAMES = [
    (r"^pred\.([bw])$", r"linear.\1"),  # the classifier that Detectron's own backbones had
    (r"\.b$", ".bias"),
    (r"\.w$", ".weight"),
    (r"bn\.(s|gamma)$", "norm.weight"),
    (r"bn\.(bias|beta)$", "norm.bias"),
    (r"bn\.(rm|running\.mean)$", "norm.running_mean"),
    (r"bn\.(riv|running\.var)$", "norm.running_var"),
    (r"gn\.s$", "norm.weight"),
    (r"gn\.bias$", "norm.bias"),
    (r"^res\.conv1\.norm\.", "conv1.norm."),
    (r"^conv1\.", "stem.conv1."),
    (r"\.branch1\.", ".shortcut."),
    (r"\.branch2a\.", ".conv1."),
    (r"\.branch2b\.", ".conv2."),
    (r"\.branch2c\.", ".conv3."),
]

_RPN = "proposal_generator.rpn_head"

# Detectron's heads. Its RPN is called after the level p2 in models with FPN.
_DETECTRON_RENAMES = [
    (r"^conv\.rpn(\.fpn2)?\.", f"{_RPN}.conv."),
    (r"^rpn\.bbox\.pred(\.fpn2)?\.", f"{_RPN}.anchor_deltas."),
    (r"^rpn\.cls\.logits(\.fpn2)?\.", f"{_RPN}.objectness_logits."),
    (r"^bbox\.pred", "bbox_pred"),
    (r"^cls\.score", "cls_score"),
    (r"^fc6\.", "box_head.fc1."),
    (r"^fc7\.", "box_head.fc2."),
    (r"^head\.conv", "box_head.conv"),
    # fpn.inner.res4.5.sum.lateral.weight and fpn.res4.5.sum.weight; "norm" stays.
    (r"^fpn\.inner\.res(\d)\.\d+\.sum(\.lateral)?(\.norm)?\.(\w+)$", r"fpn_lateral\1\3.\4"),
    (r"^fpn\.res(\d)\.\d+\.sum(\.norm)?\.(\w+)$", r"fpn_output\1\2.\3"),
    (r"^\.(\[mask\]|mask)\.fcn", "mask_head.mask_fcn"),
    (r"^mask\.fcn\.logits", "mask_head.predictor"),
    (r"^conv5\.mask", "mask_head.deconv"),
    (r"^conv\.fcn", "roi_heads.keypoint_head.conv_fcn"),
    (r"^kps\.score\.lowres", "roi_heads.keypoint_head.score_lowres"),
    (r"^kps\.score\.", "roi_heads.keypoint_head.score."),
]


def convert_basic_c2_names(original_keys: list[str]) -> list[str]:
    """Convert Caffe2's names of a backbone's parameters to detectron2's, in the same order."""
    return [_rename(name.replace("_", "."), _BASIC_RENAMES) for name in original_keys]


def convert_c2_detectron_names(
    weights: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Convert the weights of a Detectron or Caffe2 model to detectron2's names and layout.

    The background class moves from first to last in `cls_score`, and is removed from the box and
    mask predictions.

    Args:
        weights: name to tensor.

    Returns:
        The weights by their new names, and a dict from new to old names.
    """
    names = [_rename(name, _DETECTRON_RENAMES) for name in convert_basic_c2_names(list(weights))]
    original_keys = dict(zip(names, weights, strict=True))
    converted = {}
    for new, old in original_keys.items():
        value = weights[old]
        if new.startswith("cls_score."):
            value = torch.cat([value[1:], value[:1]])
        # Models that predict one box for all classes have rows for background and foreground too.
        elif new.startswith("bbox_pred."):
            value = value[4:]
        elif new.startswith("mask_head.predictor."):
            value = value[1:]
        converted[new] = value
    return converted, original_keys


def _rename(name: str, rules: list[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def align_and_update_state_dicts(
    model_state_dict: Mapping[str, Any],
    ckpt_state_dict: Mapping[str, Tensor],
    c2_conversion: bool = True,
) -> dict[str, Tensor]:
    """Match each name of the model with the checkpoint's longest name that is a suffix of it.

    A suffix starts at a dot: "conv1.weight" matches "stem.conv1.weight", not "myconv1.weight".
    Entries whose shape differs from the model's are not used, with a warning.

    Args:
        model_state_dict: the model's names and tensors.
        ckpt_state_dict: the checkpoint's.
        c2_conversion: whether the checkpoint has Caffe2's names.

    Returns:
        The checkpoint's entries under the model's names, then those that match nothing under
        their own (converted) names.

    Raises:
        ValueError: one entry of the checkpoint fits several names of the model.
    """
    original_keys = {name: name for name in ckpt_state_dict}
    if c2_conversion:
        ckpt_state_dict, original_keys = convert_c2_detectron_names(ckpt_state_dict)
    taken_by: dict[str, str] = {}
    for model_key in sorted(model_state_dict):
        ckpt_key = longest_ending(model_key, ckpt_state_dict)
        if ckpt_key is None:
            continue
        own_shape, shape = model_state_dict[model_key].shape, ckpt_state_dict[ckpt_key].shape
        if own_shape != shape:
            logger.warning(
                "%s of the checkpoint is not used, because its shape differs from that of %s in "
                "the model: %s and %s",
                original_keys[ckpt_key],
                model_key,
                tuple(shape),
                tuple(own_shape),
            )
        elif ckpt_key in taken_by:
            raise ValueError(
                f"{original_keys[ckpt_key]} of the checkpoint fits both {taken_by[ckpt_key]} and "
                f"{model_key} of the model; rename it to one of them"
            )
        else:
            taken_by[ckpt_key] = model_key
    fate = dict.fromkeys(model_state_dict, "rest")
    fate.update(dict.fromkeys(taken_by.values(), "matched"))
    groups = [f"{name} ({count})" for name, count in group_names(fate)["matched"]]
    logger.info("Matched %d names by their endings: %s", len(taken_by), ", ".join(groups) or "none")
    aligned = {model_key: ckpt_state_dict[ckpt_key] for ckpt_key, model_key in taken_by.items()}
    rest = {name: value for name, value in ckpt_state_dict.items() if name not in taken_by}
    return {**aligned, **rest}


def longest_ending(name: str, known: Mapping[str, Any]) -> str | None:
    """Return the longest known suffix of a dotted name."""
    while name not in known:
        _, dot, name = name.partition(".")
        if not dot:
            return None
    return name
