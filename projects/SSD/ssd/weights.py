"""Weights of torchvision for the models of this project."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .ssd_backbones import MOBILENETS, cut_mobilenet

# The ids of COCO's 80 categories; torchvision has a class for each id from 1 to 90.
_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(i for i in range(1, 91) if i not in _UNUSED)


def convert_ssd(
    weights: Mapping[str, Tensor], num_classes: int, kept: Sequence[int] = COCO_IDS
) -> dict[str, Tensor]:
    """Keep some of the classes of torchvision's SSD or SSDLite.

    Parameter names and the order of classes are the same, so a model with all classes needs no
    conversion.

    Args:
        weights: weights of `ssd300_vgg16` or `ssdlite320_mobilenet_v3_large`.
        num_classes: K + 1, the classes in `weights`, with the background as class 0.
        kept: the classes to keep, in their new order; the background stays before them.
    """
    rows = torch.tensor([0, *kept])
    return {
        name: _choose_classes(value, num_classes, rows) if _is_classifier(name) else value
        for name, value in weights.items()
    }


def _is_classifier(name: str) -> bool:
    """Return whether it is part of the last convolution of a level; in SSDLite, layer 1."""
    if not name.startswith("head.classification_head.module_list."):
        return False
    rest = name.split(".")[4:]
    return rest in (["weight"], ["bias"], ["1", "weight"], ["1", "bias"])


def _choose_classes(value: Tensor, num_classes: int, rows: Tensor) -> Tensor:
    by_class = value.unflatten(0, (-1, num_classes))  # (A, K+1, ...)
    return by_class[:, rows].flatten(0, 1)


def convert_vgg16(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert an ImageNet VGG-16 to initial weights of SSD.

    conv5 moves after pool4, and fc6 and fc7 become convolutions with 1024 channels: every 4th of
    their 4096 units, and every 3rd of fc6's 7 x 7 inputs along both axes (sec. 3).

    Args:
        weights: weights of torchvision's `vgg16`.
    Returns:
        The entries `backbone.*` of SSD300 or SSD512, except for the layers after fc7.
    """
    converted = {}
    for name, value in weights.items():
        part, index, kind = name.split(".")
        if part == "features" and int(index) < 23:  # pool4 is layer 23
            converted[f"backbone.{name}"] = value
        elif part == "features":
            converted[f"backbone.extra.0.{int(index) - 23}.{kind}"] = value
    fc6 = weights["classifier.0.weight"].view(4096, 512, 7, 7)
    converted["backbone.extra.0.7.1.weight"] = fc6[::4, :, ::3, ::3].clone()
    converted["backbone.extra.0.7.1.bias"] = weights["classifier.0.bias"][::4].clone()
    converted["backbone.extra.0.7.3.weight"] = weights["classifier.3.weight"][
        ::4, ::4, None, None
    ].clone()
    converted["backbone.extra.0.7.3.bias"] = weights["classifier.3.bias"][::4].clone()
    return converted


def convert_mobilenet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert an ImageNet MobileNet to initial weights of SSDLite.

    Args:
        weights: weights of torchvision's `mobilenet_v2`, `mobilenet_v3_large` or
            `mobilenet_v3_small`.
    Returns:
        The entries `backbone.features.*` of an SSDLite with MOBILENET_REDUCED_TAIL False.
    Raises:
        ValueError: the names belong to none of these.
    """
    for make in MOBILENETS.values():
        with torch.device("meta"):  # for its names only
            net = make(weights=None)
        if net.state_dict().keys() == weights.keys():
            break
    else:
        raise ValueError(f"the weights are not from one of torchvision's {', '.join(MOBILENETS)}")
    old_names = {id(value): name for name, value in net.state_dict(keep_vars=True).items()}
    parts = nn.Sequential(*cut_mobilenet(net.features)[:2])
    return {
        f"backbone.features.{name}": weights[old_names[id(value)]]
        for name, value in parts.state_dict(keep_vars=True).items()
    }
