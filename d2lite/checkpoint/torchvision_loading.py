"""torchvision's released weights: names like `torchvision://resnet50`, and their conversion."""

import os
import re
from collections.abc import Mapping
from typing import Any

from iopath.common.file_io import file_lock

from d2lite.utils.downloads import download
from d2lite.utils.file_io import PathHandler, PathManager, cache_folder
from d2lite.utils.registry import did_you_mean

# Applied in this order. "layer1" is the first stage, called conv2 in the paper, res2 in detectron2.
_RENAMES = [
    (re.compile(r"^(conv1|bn1)\."), r"stem.\1."),
    (re.compile(r"^layer(\d+)\."), lambda match: f"res{int(match[1]) + 1}."),
    (re.compile(r"\bbn(\d+)\."), r"conv\1.norm."),
    (re.compile(r"\bdownsample\.0\."), "shortcut."),
    (re.compile(r"\bdownsample\.1\."), "shortcut.norm."),
]


def is_torchvision_resnet(weights: Mapping[str, Any], model_keys: Mapping[str, Any]) -> bool:
    """Return whether `weights` are a torchvision ResNet's and the model is not one itself."""
    typical = ("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.0.bn1.weight")
    if not all(name in weights for name in typical):
        return False
    return not any(name.endswith("layer1.0.conv1.weight") for name in model_keys)


def convert_torchvision_names(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights of a torchvision ResNet or ResNeXt under detectron2's names.

    The classifier on top, which no detector has, is dropped.
    """
    converted = {}
    for name, value in weights.items():
        if name.startswith("fc."):
            continue
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)
        converted[name] = value
    return converted


class TorchvisionHandler(PathHandler):
    """Handler of `torchvision://resnet50` or `torchvision://ResNet50_Weights.IMAGENET1K_V1`.

    The name of a model means its default weights. They are downloaded once, and compared with
    the hash at the end of their name.
    """

    PREFIX = "torchvision://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        url = weights_url(path[len(self.PREFIX) :])
        local = os.path.join(cache_folder(), "torchvision", os.path.basename(url))
        with file_lock(local):
            if force or not os.path.isfile(local):
                download(url, local)
        return local

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return open(self._get_local_path(path), mode, buffering)


def weights_url(name: str) -> str:
    """Return the address of weights, given their name or that of the model."""
    from torchvision import models

    if "." in name:
        try:
            return models.get_weight(name).url
        except (AttributeError, KeyError, ValueError) as error:
            raise FileNotFoundError(
                f"torchvision has no weights called {name!r}: {error}"
            ) from None
    known = models.list_models()
    if name not in known:
        raise FileNotFoundError(
            f"torchvision has no model called {name!r}.{did_you_mean(name, known)}"
        )
    return models.get_model_weights(name).DEFAULT.url


PathManager.register_handler(TorchvisionHandler())
