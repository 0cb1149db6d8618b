"""Configs written in Python: files that define dicts and `LazyCall`s.

from d2lite.config import LazyCall as L
model = L(MyModel)(width=64)          # nothing is built yet
cfg = LazyConfig.load("that_file.py")
cfg.model.width = 32
instantiate(cfg.model)                # now it is
"""

import copy
import dataclasses
import inspect
import logging
import os
from typing import Any

import cloudpickle
import yaml
from omegaconf import DictConfig, ListConfig

from d2lite.config.errors import ConfigFileError, ConfigYamlError
from d2lite.config.lazy_files import load_python_config, to_config
from d2lite.config.lazy_text import as_plain_values, as_python
from d2lite.config.overrides import apply_override
from d2lite.config.trusted import require_trusted_targets
from d2lite.config.yaml_files import load_with_bases
from d2lite.utils.errors import ArgumentError, file_errors
from d2lite.utils.file_io import PathManager
from d2lite.utils.registry import convert_target_to_string, did_you_mean

logger = logging.getLogger(__name__)


class LazyCall:
    """Wrapper of a callable that records a call as a config instead of making it.

    `LazyCall(nn.Conv2d)(in_channels=32, ...)` is a DictConfig with `_target_` and the arguments;
    `instantiate` makes the call.
    """

    def __init__(self, target: Any):
        """target: a callable, the dotted path of one, or a config with `_target_`."""
        if not (callable(target) or isinstance(target, str | DictConfig)):
            raise TypeError(f"LazyCall takes a callable or its dotted path, not {target!r}")
        self._target = target

    def __call__(self, **kwargs: Any) -> DictConfig:
        """Return a config of the call with these arguments."""
        # omegaconf would take a dataclass for a schema
        is_dataclass = dataclasses.is_dataclass(self._target)
        kwargs["_target_"] = (
            convert_target_to_string(self._target) if is_dataclass else self._target
        )
        return DictConfig(content=kwargs, flags={"allow_objects": True})


class LazyConfig:
    """Functions to load, save and change lazy configs."""

    @staticmethod
    def load(
        filename: str, keys: str | tuple[str, ...] | None = None, *, trust: bool = False
    ) -> Any:
        """Load a config file.

        A Python file is a program: it is run, and can do whatever you can. It may import from
        neighboring config files by relative imports, and gets its own copy of what it imports. A
        yaml file is data, but its `_target_` entries say what `instantiate` calls.

        Args:
            filename: a .py file, or a .yaml file of plain values such as `save` writes.
            keys: the name, or names, to return. By default all dicts of the file whose names do not
                start with an underscore are returned, in one config.
            trust: let the `_target_` entries of a yaml file name anything, not only what is in
                `trusted.TRUSTED_PACKAGES`.
        Raises:
            ValueError: the file has another type, is a URL, or is a yaml file that would call
                something that is not trusted.
            FileNotFoundError: the file does not exist.
            KeyError: the file has no such key; the message suggests similar names.
        """
        if "://" in filename:
            raise ArgumentError(
                f"{filename} is not a local file. Lazy configs say what is run, so they are not "
                "loaded from a URL: download it, read it, and give its path"
            )
        filename = os.path.normpath(filename)
        if filename.endswith(".py"):
            content = load_python_config(filename)
        elif filename.endswith((".yaml", ".yml")):
            known = (ConfigFileError, ImportError)
            with file_errors(ConfigYamlError, filename, "not a lazy config", known=known):
                plain = load_with_bases(filename, PathManager.open)
                if not trust:
                    require_trusted_targets(plain, filename)
                content = to_config(plain)
        else:
            raise ValueError(f"Config file {filename} must be .py or .yaml")
        if keys is None and isinstance(content, DictConfig):
            return content
        if keys is None:
            chosen = {
                name: to_config(value)
                for name, value in content.items()
                if isinstance(value, DictConfig | ListConfig | dict) and not name.startswith("_")
            }
            return DictConfig(chosen, flags={"allow_objects": True})
        if isinstance(keys, str):
            return _pick(content, keys, filename)
        return tuple(_pick(content, key, filename) for key in keys)

    @staticmethod
    def load_rel(
        filename: str, keys: str | tuple[str, ...] | None = None, *, trust: bool = False
    ) -> Any:
        """Load a config whose path is relative to the folder of the calling file; see `load`."""
        caller = inspect.stack()[1].filename
        if caller.startswith("<"):  # a notebook cell or the prompt has no folder
            raise ArgumentError("load_rel can only be called from a file; use load")
        return LazyConfig.load(os.path.join(os.path.dirname(caller), filename), keys, trust=trust)

    @staticmethod
    def save(cfg: Any, filename: str) -> None:
        """Write a config as yaml of plain values, which `load` reads back.

        Classes and functions are written as their dotted paths. Values that have none (a lambda)
        are written as text, with a warning, since `load` cannot restore them. In this case the
        whole config is also saved with cloudpickle, if possible, as `filename`.pkl.
        """
        plain, as_text = as_plain_values(copy.copy(cfg))
        text = yaml.safe_dump(plain, default_flow_style=None, allow_unicode=True, width=100)
        with PathManager.open(filename, "w", encoding="utf-8") as file:
            file.write(text)
        if not as_text:
            return
        keys = ", ".join(as_text)
        message = (
            f"{filename}: yaml cannot store the values of {keys}, which are saved as text only. "
        )
        try:
            pickled = cloudpickle.dumps(cfg)
        except Exception as error:  # whatever the objects in the config raise
            logger.warning("%sThe config cannot be pickled either: %s", message, error)
            return
        with PathManager.open(f"{filename}.pkl", "wb") as file:
            file.write(pickled)
        logger.warning(
            "%sThe config is also saved by cloudpickle as %s.pkl. Define the values at the top "
            "level of a module, and yaml stores them by name.",
            message,
            filename,
        )

    @staticmethod
    def apply_overrides(cfg: DictConfig, overrides: list[str]) -> DictConfig:
        """Apply overrides from the command line to a config, and return it.

        Args:
            overrides: `key=value` sets a value or an argument of a call; `+key=value` also adds
                keys to plain groups; `~key` removes one. Values are yaml: 1e-3, true, null,
                [1, 2], {a: 1}, text; `key=` is empty text. Keys may go into lists: `layers.0.size`.
        Raises:
            ValueError: an override has none of these forms.
            KeyError: the key does not exist.
        """
        for override in overrides:
            apply_override(cfg, override)
        return cfg

    @staticmethod
    def to_py(cfg: Any, prefix: str = "cfg.") -> str:
        """Return the config as Python-like text for reading, one setting a line; it cannot be run.

        Args:
            prefix: text before each name.
        """
        return as_python(cfg, prefix)


def _pick(content: Any, key: str, filename: str) -> Any:
    if key not in content:
        names = [str(name) for name in content if not str(name).startswith("_")]
        raise KeyError(f"{filename} has no {key!r}.{did_you_mean(key, names)}")
    return to_config(content[key])
