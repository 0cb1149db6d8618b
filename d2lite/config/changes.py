"""The settings in which one config differs from another."""

from d2lite.config.cfg_node import CfgNode


def changed_settings(cfg: CfgNode, defaults: CfgNode) -> CfgNode:
    """Return the settings of `cfg` that differ from `defaults` or are missing there."""
    changed = CfgNode()
    for key, value in cfg.items():
        before = defaults.get(key)
        if isinstance(value, CfgNode) and isinstance(before, CfgNode):
            inner = changed_settings(value, before)
            if inner:
                changed[key] = inner
        elif key not in defaults or value != before:
            changed[key] = value
    return changed
