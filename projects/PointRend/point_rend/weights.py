"""Weights of earlier layouts, whose parameters had other names."""

from collections.abc import Mapping

from torch import nn


def rename_on_load(module: nn.Module, names: Mapping[str, str]) -> None:
    """Let `module.load_state_dict` load weights from before the module's `_version`.

    Args:
        names: former prefixes of the module's parameter names -> current prefixes.
    """

    def rename(module, state_dict, prefix, local_metadata, *_) -> None:
        if (local_metadata.get("version") or 0) >= module._version:
            return
        for old, new in names.items():
            for key in [key for key in state_dict if key.startswith(prefix + old)]:
                state_dict[prefix + new + key[len(prefix + old) :]] = state_dict.pop(key)

    module.register_load_state_dict_pre_hook(rename)
