"""Build whole models by name."""

from operator import attrgetter

import torch
from torch import nn

from d2lite.config import CfgNode
from d2lite.modeling.freezing import freeze_parameters
from d2lite.modeling.meta_arch.origin import ModelOrigin
from d2lite.utils.registry import Registry

META_ARCH_REGISTRY = Registry("META_ARCH", config_key="MODEL.META_ARCHITECTURE")
META_ARCH_REGISTRY.__doc__ = """Callables cfg -> nn.Module.

The module takes a list of dicts, one per image ("image", "instances", "height", "width" and more).
It returns losses by name in training and a list of dicts at inference.
"""


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model named by MODEL.META_ARCHITECTURE on MODEL.DEVICE, with initial weights.

    Parameters that match MODEL.FREEZE are frozen. Its checkpoints contain this config and the class
    names of DATASETS.TRAIN (`ModelOrigin`).

    Raises:
        KeyError: for a name that is not registered.
        ValueError: a class count is still -1, or a pattern of MODEL.FREEZE matches nothing.
    """
    architecture = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    for key in getattr(architecture, "class_count_keys", {}):
        if attrgetter(key)(cfg) == -1:
            raise ValueError(
                f"{key} is -1, as many as the dataset has, which is not known here; call "
                "d2lite.engine.check_class_counts(cfg) before build_model(cfg), or set the key"
            )
    model = architecture(cfg)
    freeze_parameters(model, cfg.MODEL.get("FREEZE", ()))
    model.built_from = ModelOrigin(cfg, cfg.get("DATASETS", {}).get("TRAIN", ()))
    return model.to(torch.device(cfg.MODEL.DEVICE))
