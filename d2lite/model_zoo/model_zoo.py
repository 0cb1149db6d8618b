"""The model zoo: configs by name, and the released weights that belong to them."""

import os
from typing import Any

from omegaconf import DictConfig
from torch import nn

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import CfgNode, LazyConfig, get_cfg, instantiate
from d2lite.config.files import ENDINGS, configs_folder
from d2lite.model_zoo.checkpoint_urls import CHECKPOINT_SUFFIXES, URL_PREFIX
from d2lite.modeling import build_model
from d2lite.utils.registry import did_you_mean


def get_checkpoint_url(config_path: str) -> str:
    """Return the URL of the weights that detectron2 has released for a config.

    Args:
        config_path: relative to `configs/`, such as "COCO-Detection/retinanet_R_50_FPN_1x.yaml".

    Raises:
        RuntimeError: there are none; the message suggests similar names.
    """
    name, ending = os.path.splitext(config_path)
    name = name if ending in ENDINGS else config_path
    if name not in CHECKPOINT_SUFFIXES:
        raise RuntimeError(
            f"No weights are released for {config_path}.{did_you_mean(name, CHECKPOINT_SUFFIXES)}"
        )
    return f"{URL_PREFIX}{name}/{CHECKPOINT_SUFFIXES[name]}"


def get_config_file(config_path: str) -> str:
    """Return the path of a config of the zoo on this machine.

    Args:
        config_path: relative to `configs/`, such as "COCO-Detection/retinanet_R_50_FPN_1x.yaml".

    Raises:
        RuntimeError: the config was not found; the message suggests similar names.
    """
    folder = configs_folder()
    path = folder / config_path
    if not path.is_file():
        known = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in ENDINGS]
        raise RuntimeError(
            f"The model zoo has no config {config_path}.{did_you_mean(config_path, known)}"
        )
    return str(path)


def get_config(config_path: str, trained: bool = False) -> CfgNode | DictConfig:
    """Return a config of the zoo.

    Args:
        config_path: relative to `configs/`; `.yaml` returns a CfgNode, `.py` a lazy config.
        trained: set the released weights of the whole model. False keeps the initial weights that
            the config trains from, usually those of ImageNet.

    Raises:
        RuntimeError: the config was not found, or no weights are released for it.
    """
    path = get_config_file(config_path)
    if path.endswith(".yaml"):
        cfg = get_cfg()
        cfg.merge_from_file(path)
        if trained:
            cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
        return cfg
    cfg = LazyConfig.load(path)
    if trained:
        if "init_checkpoint" not in cfg.get("train", {}):
            raise RuntimeError(f"{config_path} has no train.init_checkpoint for the weights")
        cfg.train.init_checkpoint = get_checkpoint_url(config_path)
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """Build a model of the zoo and load the weights of its config, in training mode.

    Args:
        config_path: relative to `configs/`.
        trained: load the released weights of the whole model; see `get_config`.
        device: device of the model; by default the config's, which is the best available one.

    Raises:
        RuntimeError: the config was not found, or no weights are released for it.
    """
    cfg = get_config(config_path, trained)
    if isinstance(cfg, CfgNode):
        if device is not None:
            cfg.MODEL.DEVICE = device
        model: Any = build_model(cfg)
        weights = cfg.MODEL.WEIGHTS
    else:
        model = instantiate(cfg.model).to(device or get_cfg().MODEL.DEVICE)
        weights = cfg.get("train", {}).get("init_checkpoint", "")
    DetectionCheckpointer(model).load(weights)
    return model
