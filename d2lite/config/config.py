"""The default config and the global config; also re-exports CfgNode and configurable."""

from d2lite.config.cfg_node import CfgNode
from d2lite.config.configurable import configurable as configurable
from d2lite.config.defaults import _C
from d2lite.config.device import best_device

global_cfg = CfgNode()
"""Global config; empty until set_global_cfg is called. Prefer explicit arguments."""


def get_cfg() -> CfgNode:
    """Return a fresh copy of the default config, with the best device of this machine as
    MODEL.DEVICE."""
    cfg = _C.clone()
    cfg.MODEL.DEVICE = best_device()
    return cfg


def set_global_cfg(cfg: CfgNode) -> None:
    """Set the content of `global_cfg` to that of `cfg`, for all modules that imported it."""
    global_cfg.clear()
    global_cfg.update(cfg)
