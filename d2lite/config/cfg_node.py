"""CfgNode, the yaml config tree."""

import io
import logging
from collections.abc import Iterator
from typing import Any

from fvcore.common.config import BASE_KEY, CfgNode as _CfgNode
from yacs.config import _check_and_coerce_cfg_value_type

from d2lite.config.compat import (
    CURRENT_VERSION,
    downgrade_config,
    guess_version,
    upgrade_config,
)
from d2lite.config.device import best_device
from d2lite.config.errors import (
    ConfigFileError,
    ConfigTypeError,
    ConfigVersionError,
    ConfigYamlError,
    UnknownKeyError,
)
from d2lite.config.keys import get_key, has_key, rename_key
from d2lite.config.yaml_files import MAX_LENGTH, load_with_bases
from d2lite.utils.errors import file_errors, quoted, shortened
from d2lite.utils.file_io import read_text
from d2lite.utils.registry import did_you_mean
from d2lite.utils.renamed import RENAMED_KEYS

logger = logging.getLogger(__name__)


class CfgNode(_CfgNode):
    """A tree of settings: `cfg.MODEL.MASK_ON`, merged from yaml files and KEY VALUE lists.

    It extends fvcore's CfgNode (`_BASE_` files, freeze, clone, strict types):

    - errors are one line, with the file, the full key and the closest valid key;
    - files of older config versions are upgraded when merged;
    - keys that d2lite has renamed are accepted under their old names;
    - yaml is data and arithmetic (`expressions.py`): tags that would run code are refused;
    - the DEVICE "auto" immediately becomes the best device of this machine.
    """

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """Return the content of a yaml file with its `_BASE_` files merged in, as plain dicts.

        Args:
            filename: path, or anything PathManager opens. `_BASE_` is relative to it.
            allow_unsafe: has no effect: yaml that runs code is always refused.
        """
        return load_with_bases(filename, cls._open_cfg)

    @classmethod
    def _open_cfg(cls, filename: str) -> Any:
        return io.StringIO(read_text(filename, MAX_LENGTH))

    def __setitem__(self, key: str, value: Any) -> None:
        # Every merge and assignment ends up here, so DEVICE is never "auto" when read.
        if key == "DEVICE" and value == "auto":
            value = best_device()
        # A single dataset name, or None, becomes a tuple: a string would be iterated letter by
        # letter.
        if key in ("TRAIN", "TEST") and isinstance(self.get(key), tuple):
            value = (value,) if isinstance(value, str) else () if value is None else value
        # Yaml has no tuples. The merge restores those at the top level; nested ones (the weights of
        # the cascade's stages) are restored here, so that a dumped config is equal when it is
        # read back.
        default = self.get(key)
        both_tuples = isinstance(value, tuple) and isinstance(default, tuple)
        if both_tuples and default and all(isinstance(x, tuple) for x in default):
            value = tuple(tuple(x) if isinstance(x, list) else x for x in value)
        super().__setitem__(key, value)

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Overwrite settings with those of a yaml file.

        Args:
            cfg_filename: path, or anything PathManager opens.
            allow_unsafe: has no effect: yaml that runs code is always refused.
        Raises:
            ConfigFileError: the file or one of its bases does not exist (a FileNotFoundError).
            ConfigYamlError: the file is not yaml with plain values and arithmetic (a ValueError).
            UnknownKeyError: a key is not in this config (a KeyError).
            ConfigTypeError: the type of a value differs from that of the default (a ValueError).
            ConfigVersionError: the file has a newer version (a ValueError).
        """
        content = self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe)
        known = (UnknownKeyError, ConfigTypeError, ConfigVersionError, ConfigFileError)
        with file_errors(ConfigYamlError, cfg_filename, "not a config", known=known):
            loaded = type(self)(content)
            current = self.get("VERSION", CURRENT_VERSION)
            version = guess_version(loaded, cfg_filename)
            if type(version) is not int or version < 0:
                raise ConfigVersionError(
                    f"{cfg_filename}: VERSION is {quoted(version)}; expected a whole number"
                )
            if version > current:
                raise ConfigVersionError(
                    f"{cfg_filename}: VERSION is {version}, newer than {current}, the latest "
                    "that this release reads; update d2lite"
                )
            if version == current:
                self._checked_merge(loaded, cfg_filename)
                return
            logger.warning(
                "%s has config version %d; its keys are upgraded to version %d. Update the file to "
                "avoid this warning.",
                cfg_filename,
                version,
                self.VERSION,
            )
            # It is merged under its own key names, which are upgraded afterward.
            older = downgrade_config(self, to_version=version)
            older._checked_merge(loaded, cfg_filename)
            upgraded = upgrade_config(older)
            self.clear()
            self.update(upgraded)

    def merge_from_other_cfg(self, cfg_other: "CfgNode") -> None:
        """Overwrite settings with those of another config, which must not have new keys."""
        self._checked_merge(cfg_other, "")

    def _checked_merge(self, other: "CfgNode", source: str) -> None:
        assert BASE_KEY not in other, f"{BASE_KEY} can only be used in files"
        for old in RENAMED_KEYS:
            new = _new_name(old, self, source) if has_key(other, old) else old
            if new != old:
                other = rename_key(other.clone(), old, new)
        _check_mergeable(other, self, self, (), source)
        super().merge_from_other_cfg(other)

    def merge_from_list(self, cfg_list: list[Any]) -> None:
        """Overwrite settings with a list of keys and values: ["SOLVER.BASE_LR", "0.01", ...].

        Strings that are Python literals are evaluated, so "0.01" becomes a float.

        Raises:
            UnknownKeyError: a key is not in this config (an AssertionError).
            ConfigTypeError: the type of a value differs from that of the default (a ValueError).
            AssertionError: the list is not made of pairs, or contains a program option
                (`--resume`).
        """
        for word in cfg_list:
            assert not str(word).startswith("--"), (
                f"{word} is among the overrides; options come before the first KEY VALUE"
            )
        assert len(cfg_list) % 2 == 0, (
            f"the overrides must be pairs of KEY VALUE, but {self._missing_value(cfg_list)}"
        )
        keys = [_new_name(str(key), self, "the overrides") for key in cfg_list[0::2]]
        values = cfg_list[1::2]
        for full_key, value in zip(keys, values, strict=True):
            assert full_key != BASE_KEY, f"{BASE_KEY} can only be used in files"
            if full_key in self.__dict__[self.DEPRECATED_KEYS] or self.key_is_renamed(full_key):
                continue  # the merge itself reports these
            if not has_key(self, full_key):
                raise _unknown_key(full_key, self, "the overrides")
            default = get_key(self, full_key)
            _check_type(self._decode_cfg_value(value), default, full_key, "the overrides")
        super().merge_from_list([word for pair in zip(keys, values, strict=True) for word in pair])

    def _missing_value(self, cfg_list: list[Any]) -> str:
        """Describe what is wrong with an odd number of words, and what to write instead.

        The key without a value is the first one that is followed by another key or by nothing.
        """
        keys = set(_flat_keys(self))
        for word in map(str, cfg_list):
            key, equals, value = word.partition("=")
            if equals and key in keys:
                return f"{shortened(word)} is one word; write {key} {shortened(value)}"
        pairs = zip(cfg_list[0::2], [*cfg_list[1::2], None], strict=True)
        key = next(str(key) for key, value in pairs if value is None or str(value) in keys)
        return f"{shortened(key)} has no value; write one after it"

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Return the config as yaml text of plain values, which `merge_from_file` reads back."""
        return super().dump(*args, **kwargs)


def _new_name(full_key: str, root: CfgNode, source: str) -> str:
    """Return the current name of a key, unless `root` has or accepts a key of the old name."""
    for old, new in RENAMED_KEYS.items():
        if full_key != old and not full_key.startswith(f"{old}."):
            continue
        group = old.rpartition(".")[0]
        if has_key(root, old) or not has_key(root, new) or get_key(root, group).is_new_allowed():
            continue
        where = f"{source}: " if source else ""
        logger.warning("%s%s is now called %s", where, old, new)
        return new + full_key.removeprefix(old)
    return full_key


def _check_mergeable(
    other: CfgNode, node: CfgNode, root: CfgNode, path: tuple[str, ...], source: str
) -> None:
    """Raise an error, before any change, if `other` can't be merged into `node` (at `path`)."""
    for key, value in other.items():
        full_key = ".".join((*path, str(key)))
        if key in node:
            value = node._decode_cfg_value(value)
            _check_type(value, node[key], full_key, source)
            if isinstance(value, CfgNode) and isinstance(node[key], CfgNode):
                _check_mergeable(value, node[key], root, (*path, str(key)), source)
        elif not (
            node.is_new_allowed()
            or full_key in root.__dict__[root.DEPRECATED_KEYS]
            or root.key_is_renamed(full_key)
        ):
            raise _unknown_key(full_key, root, source)


def _check_type(value: Any, default: Any, full_key: str, source: str) -> None:
    try:
        _check_and_coerce_cfg_value_type(value, default, full_key, full_key)
        return
    except ValueError:
        pass  # its message does not say what to write
    where = f"{source}: " if source else ""
    if isinstance(default, CfgNode):
        inner = ", ".join(f"{full_key}.{key}" for key in list(default)[:3])
        raise ConfigTypeError(
            f"{where}{full_key} is {quoted(value)}, but it is a group of keys: set {inner}, ..."
        )
    if isinstance(value, CfgNode):
        inner = shortened(", ".join(map(str, value)))
        raise ConfigTypeError(
            f"{where}{full_key} is a single value ({quoted(default)}), but has keys in it: {inner}"
        )
    remedy = ""
    if isinstance(default, float) and type(value) is int:
        remedy = f"; write {float(value)}"
    elif isinstance(default, int) and isinstance(value, float) and value.is_integer():
        remedy = f"; write {int(value)}"
    elif isinstance(default, bool):
        remedy = "; write True or False"
    elif isinstance(default, tuple | list) and isinstance(value, str | int | float):
        remedy = f"; write ({quoted(value)},)"
    raise ConfigTypeError(
        f"{where}{full_key} is {quoted(value)} ({type(value).__name__}), but must be "
        f"{type(default).__name__}, as its current value {quoted(default)}{remedy}"
    )


def _unknown_key(full_key: str, root: CfgNode, source: str) -> UnknownKeyError:
    where = f"{source}: " if source else ""
    # The closest full keys, or else those with the same last part.
    keys = list(_flat_keys(root))
    last = full_key.split(".")[-1].upper()
    same_name = [key for key in keys if key.split(".")[-1] == last]
    hint = did_you_mean(full_key, keys) or did_you_mean(full_key, same_name)
    if same_name and not hint:
        hint = f" Did you mean {' or '.join(map(repr, same_name[:3]))}?"
    return UnknownKeyError(f"{where}there is no config key {quoted(full_key)}.{hint}")


def _flat_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield prefix + str(key)
        if isinstance(value, CfgNode):
            yield from _flat_keys(value, f"{prefix}{key}.")
