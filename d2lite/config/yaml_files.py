"""Reading yaml config files: plain data only, with the files that `_BASE_` names merged in."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from d2lite.config.errors import ConfigFileError, ConfigYamlError
from d2lite.utils.registry import did_you_mean

__all__ = ["load_with_bases"]

_BASE_KEY = "_BASE_"
# What the base config of detectron2's RetinaNet computes by a tag.
_RETINANET_SIZES = "RetinaNet's anchor sizes are, written plainly, " + str(
    [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in (32, 64, 128, 256, 512)]
)

_PYTHON_TAG = re.compile(r"^tag:yaml\.org,2002:python/|^!!?python/|^!")


def load_with_bases(
    filename: str, open_file: Callable[[str], Any], loading: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The content of a yaml file over that of its bases.

    Args:
        filename: path of the file. A relative `_BASE_` starts from its folder; `_BASE_` may be a
            list, of which later files count more.
        open_file: opens a file for reading.
        loading: the files that led here, for messages.
    """
    content = _load_one(filename, open_file, loading)
    bases = content.pop(_BASE_KEY, [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        path = _resolve_base(base, filename)
        if path in (*loading, filename):
            raise ConfigFileError(f"{filename}: {_BASE_KEY} {base} leads back to the file itself")
        _overwrite(merged, load_with_bases(path, open_file, (*loading, filename)), filename)
    _overwrite(merged, content, filename)
    return merged


def _load_one(filename: str, open_file: Callable, loading: tuple[str, ...]) -> dict[str, Any]:
    try:
        with open_file(filename) as file:
            content = yaml.load(file, Loader=_DataLoader)
    except FileNotFoundError:
        raise ConfigFileError(_missing_message(filename, loading)) from None
    except OSError as error:
        raise ConfigFileError(
            f"The config file {filename} cannot be read: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError:
        raise ConfigYamlError(f"{filename} is no text file; give a yaml file") from None
    except yaml.constructor.ConstructorError as error:
        raise ConfigYamlError(_unsafe_message(filename, error)) from None
    except yaml.YAMLError as error:
        raise ConfigYamlError(
            f"{filename} is not valid yaml: {' '.join(str(error).split())}"
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigYamlError(
            f"{filename} holds a {type(content).__name__}; write 'KEY: value' lines"
        )
    return content


class _DataLoader(yaml.SafeLoader):
    """yaml's safe loader; only its errors are told apart by their tag."""


def _refuse_tag(loader: _DataLoader, node: yaml.Node) -> Any:
    raise yaml.constructor.ConstructorError(None, None, node.tag, node.start_mark)


_DataLoader.add_constructor(None, _refuse_tag)


def _unsafe_message(filename: str, error: yaml.constructor.ConstructorError) -> str:
    mark = error.problem_mark
    line = f" line {mark.line + 1}" if mark else ""
    tag = error.problem or ""
    if not _PYTHON_TAG.search(tag):
        return f"{filename}{line}: {tag}"
    short = tag.replace("tag:yaml.org,2002:", "!!")
    message = f"{filename}{line}: the yaml tag {short} would run code, which a config must not"
    if "python/object/apply:eval" in tag:
        return f"{message}; write the computed value itself. {_RETINANET_SIZES}"
    if "python/tuple" in tag:
        return message + "; write a plain list, which becomes a tuple where the default is one"
    return message + "; write plain values"


def _missing_message(filename: str, loading: tuple[str, ...]) -> str:
    hint = _near_files(filename)
    if loading:
        return f"{loading[-1]}: its {_BASE_KEY} {filename} does not exist.{hint}"
    return f"There is no config file {filename}.{hint}"


def _near_files(filename: str) -> str:
    folder = Path(filename).parent
    if "://" in filename or not folder.is_dir():
        return f" There is no folder {folder} either." if "://" not in filename else ""
    names = [path.name for path in folder.iterdir() if path.suffix in (".yaml", ".yml")]
    return did_you_mean(Path(filename).name, names)


def _resolve_base(base: str, filename: str) -> str:
    base = os.path.expanduser(base)
    if base.startswith("/") or "://" in base:
        return base
    return os.path.normpath(os.path.join(os.path.dirname(filename), base))


def _overwrite(target: dict, source: dict, filename: str, path: str = "") -> None:
    """Write `source` over `target`, group by group."""
    for key, value in source.items():
        if isinstance(value, dict) and key in target:
            if not isinstance(target[key], dict):
                raise ConfigYamlError(
                    f"{filename}: {path}{key} is a group of keys, but a single value in its base"
                )
            _overwrite(target[key], value, filename, f"{path}{key}.")
        else:
            target[key] = value
