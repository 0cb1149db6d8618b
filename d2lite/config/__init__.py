"""Configs: yaml trees (CfgNode) and Python files (LazyConfig), and what turns them into objects."""

from d2lite.config.compat import downgrade_config, upgrade_config
from d2lite.config.config import CfgNode, configurable, get_cfg, global_cfg, set_global_cfg
from d2lite.config.instantiate import instantiate
from d2lite.config.lazy import LazyCall, LazyConfig

__all__ = [
    "CfgNode",
    "LazyCall",
    "LazyConfig",
    "configurable",
    "downgrade_config",
    "get_cfg",
    "global_cfg",
    "instantiate",
    "set_global_cfg",
    "upgrade_config",
]
