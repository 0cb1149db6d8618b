"""Hooks named in a config, so that a project can add one without its own trainer."""

from d2lite.config import CfgNode
from d2lite.engine.train_loop import HookBase
from d2lite.utils.registry import Registry

HOOK_REGISTRY = Registry("HOOK", config_key="HOOKS")
HOOK_REGISTRY.__doc__ = """Callables cfg -> HookBase; HOOKS lists those of a training run.

A class registers itself, with a constructor that takes the config alone or with `@configurable` and
a `from_config(cfg)`. The trainer is there as `self.trainer` from `before_train` on.
"""


def build_named_hooks(cfg: CfgNode) -> list[HookBase]:
    """Build the hooks that HOOKS names, in its order.

    Raises:
        KeyError: no hook of this name is registered.
        TypeError: what is registered under the name does not return a hook.
    """
    built = []
    for name in cfg.HOOKS:
        hook = HOOK_REGISTRY.get(name)(cfg)
        if not isinstance(hook, HookBase):
            raise TypeError(f"HOOKS: {name} returned {hook!r:.80}, which is not a HookBase")
        built.append(hook)
    return built
