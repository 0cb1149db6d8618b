"""Read yaml config files: data and arithmetic only, merged with their `_BASE_` files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import yaml

from d2lite.config.errors import ConfigFileError, ConfigYamlError
from d2lite.config.expressions import ExpressionError, evaluate
from d2lite.utils.errors import quoted
from d2lite.utils.file_io import TextFileError
from d2lite.utils.plain_values import Parts, require_bounded
from d2lite.utils.registry import did_you_mean

_BASE_KEY = "_BASE_"
# Far above what configs need, and low enough that no file takes noticeable time or memory.
MAX_LENGTH = 2**18  # characters of a file
MAX_DEPTH = 32  # groups within groups
MAX_VALUES = 10_000  # in the text
MAX_SIZE = 2**16  # values, after references to anchors are followed
MAX_DIGITS = 40  # of an integer
MAX_BASES = 8  # length of a chain of _BASE_ files
MAX_FILES = 32  # per config
_PYTHON_TAG = "tag:yaml.org,2002:python/"


def load_with_bases(
    filename: str, open_file: Callable[[str], Any], loading: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the content of a yaml file, merged over that of its bases.

    Args:
        filename: path of the file. A relative `_BASE_` is relative to its folder; `_BASE_` may be a
            list, whose later files take precedence.
        open_file: opens a file for reading.
        loading: the chain of files that refer to this one, for messages.
    """
    return _Files(open_file).load(filename, loading)


class _Files:
    """Loader of the files of a config, which limits their number."""

    def __init__(self, open_file: Callable[[str], Any]) -> None:
        self._open_file = open_file
        self._count = 0

    def load(self, filename: str, loading: tuple[str, ...]) -> dict[str, Any]:
        self._count += 1
        if len(loading) >= MAX_BASES or self._count > MAX_FILES:
            raise ConfigYamlError(
                f"{(*loading, filename)[0]}: it has more than {MAX_FILES} {_BASE_KEY} files, or a "
                f"chain of more than {MAX_BASES}; merge some of them"
            )
        content = _load_one(filename, self._open_file, loading)
        bases = content.pop(_BASE_KEY, [])
        merged: dict[str, Any] = {}
        for base in bases if isinstance(bases, list | tuple) else [bases]:
            if not isinstance(base, str) or not base.isprintable():
                raise ConfigYamlError(
                    f"{filename}: {_BASE_KEY} is {quoted(str(base))}; expected the path of a file, "
                    "or a list of paths"
                )
            path = os.path.expanduser(base)
            if not path.startswith("/") and "://" not in path:  # it is relative to this file
                near = os.path.normpath(os.path.join(os.path.dirname(filename), path))
                path = urljoin(filename, path) if "://" in filename else near
            if path in (*loading, filename):
                raise ConfigFileError(
                    f"{filename}: {_BASE_KEY} {base} leads back to the file itself"
                )
            _overwrite(merged, self.load(path, (*loading, filename)), filename)
        _overwrite(merged, content, filename)
        return merged


def _load_one(filename: str, open_file: Callable, loading: tuple[str, ...]) -> dict[str, Any]:
    if filename.endswith(".py"):
        raise ConfigYamlError(
            f"{filename} is a Python config, and a yaml config is expected here: train it with "
            "`d2lite train` or tools/lazyconfig_train_net.py, or read it with LazyConfig.load"
        )
    try:
        with open_file(filename) as file:
            text = file.read(MAX_LENGTH + 1)
        if len(text) > MAX_LENGTH:
            raise ConfigYamlError(
                f"{filename} has more than {MAX_LENGTH} characters, more than any config needs"
            )
        content = yaml.load(text, Loader=_DataLoader)
    except FileNotFoundError:
        raise ConfigFileError(_missing_message(filename, loading)) from None
    except OSError as error:
        where = f"{loading[-1]}: its {_BASE_KEY}" if loading else "The config file"
        raise ConfigFileError(
            f"{where} {filename} cannot be read: {error.strerror or error}"
        ) from error
    except (TextFileError, UnicodeDecodeError):
        raise ConfigYamlError(f"{filename}: not a text file in UTF-8; give a yaml file") from None
    except yaml.constructor.ConstructorError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigYamlError(f"{filename}{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigYamlError(
            f"{filename} is not valid yaml: {' '.join(str(error).split())}"
        ) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # yaml's own constructors raise these for invalid dates, numbers and tags.
        raise ConfigYamlError(f"{filename} is not valid yaml: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigYamlError(
            f"{filename} contains a {type(content).__name__}; write 'KEY: value' lines"
        )
    return content


class _DataLoader(yaml.SafeLoader):
    """yaml's safe loader, plus tuples and arithmetic (in place of `eval`)."""

    _depth = _count = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        self._depth += 1
        self._count += 1
        message = ""
        if self._depth > MAX_DEPTH:
            message = f"values nest deeper than {MAX_DEPTH} levels"
        elif self._count > MAX_VALUES:
            message = f"more than {MAX_VALUES} values, more than any config needs"
        if message:
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, message, mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        try:
            require_bounded(node, depth=MAX_DEPTH, size=MAX_SIZE, parts=_parts_of_node)
        except ValueError as error:
            raise _error_at(node, str(error)) from None
        return node

    def construct_yaml_int(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode) and len(node.value) > MAX_DIGITS:
            raise _error_at(node, f"an integer of more than {MAX_DIGITS} digits")
        return super().construct_yaml_int(node)


def _parts_of_node(node: Any) -> Parts | None:
    """Implement `parts_of` for the node tree of a yaml file, before values are constructed."""
    if not isinstance(node, yaml.CollectionNode):
        return None
    pairs = isinstance(node, yaml.MappingNode)
    inner = [entry for pair in node.value for entry in pair] if pairs else node.value
    texts = sum(len(entry.value) // 32 for entry in inner if isinstance(entry, yaml.ScalarNode))
    containers = [entry for entry in inner if isinstance(entry, yaml.CollectionNode)]
    return 1 + len(inner) + texts, containers


def _construct_eval(loader: _DataLoader, node: yaml.Node) -> Any:
    """Return the value of an expression, as in `SIZES: !!python/object/apply:eval ["[2**5,
    2**6]"]`."""
    arguments: Any = None
    if isinstance(node, yaml.SequenceNode):
        arguments = loader.construct_sequence(node)
    elif isinstance(node, yaml.MappingNode):
        arguments = loader.construct_mapping(node, deep=True).get("args")
    if not isinstance(arguments, list) or len(arguments) != 1 or not isinstance(arguments[0], str):
        raise _error_at(node, f"the yaml tag {_short(node.tag)} needs one expression: ['2 ** 5']")
    try:
        return evaluate(arguments[0])
    except ExpressionError as error:
        message = f"cannot evaluate {quoted(arguments[0])}, {error}"
        raise _error_at(node, f"{message}; use arithmetic over plain values") from None


def _refuse_tag(loader: _DataLoader, node: yaml.Node) -> Any:
    reason = "would run code, which a config must not" if _PYTHON_TAG in node.tag else "is unknown"
    raise _error_at(node, f"the yaml tag {_short(node.tag)} {reason}; write plain values")


def _error_at(node: yaml.Node, message: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


_CONSTRUCTORS = {
    None: _refuse_tag,
    "tag:yaml.org,2002:int": _DataLoader.construct_yaml_int,
    f"{_PYTHON_TAG}none": yaml.SafeLoader.construct_yaml_null,
    f"{_PYTHON_TAG}bool": yaml.SafeLoader.construct_yaml_bool,
    f"{_PYTHON_TAG}int": _DataLoader.construct_yaml_int,
    f"{_PYTHON_TAG}long": _DataLoader.construct_yaml_int,
    f"{_PYTHON_TAG}float": yaml.SafeLoader.construct_yaml_float,
    f"{_PYTHON_TAG}str": yaml.SafeLoader.construct_yaml_str,
    f"{_PYTHON_TAG}unicode": yaml.SafeLoader.construct_yaml_str,
    f"{_PYTHON_TAG}list": yaml.SafeLoader.construct_yaml_seq,
    f"{_PYTHON_TAG}dict": yaml.SafeLoader.construct_yaml_map,
    f"{_PYTHON_TAG}tuple": lambda loader, node: tuple(loader.construct_sequence(node, deep=True)),
    # The names of `eval` in Python 2 and 3.
    f"{_PYTHON_TAG}object/apply:eval": _construct_eval,
    f"{_PYTHON_TAG}object/apply:builtins.eval": _construct_eval,
    f"{_PYTHON_TAG}object/apply:__builtin__.eval": _construct_eval,
}
for _tag, _constructor in _CONSTRUCTORS.items():
    _DataLoader.add_constructor(_tag, _constructor)


def _missing_message(filename: str, loading: tuple[str, ...]) -> str:
    folder = Path(filename).parent
    if "://" in filename:
        hint = ""
    elif not folder.is_dir():
        hint = f" There is no folder {folder} either."
    else:
        names = [path.name for path in folder.iterdir() if path.suffix in (".yaml", ".yml")]
        hint = did_you_mean(Path(filename).name, names)
    if loading:
        return f"{loading[-1]}: its {_BASE_KEY} {filename} does not exist.{hint}"
    return f"Config file {filename} not found.{hint}"


def _overwrite(target: dict, source: dict, filename: str, path: str = "") -> None:
    """Overwrite `target` with `source`, group by group."""
    for key, value in source.items():
        if isinstance(value, dict) and key in target:
            if not isinstance(target[key], dict):
                raise ConfigYamlError(
                    f"{filename}: {path}{key} is a group of keys, but a single value in its base"
                )
            _overwrite(target[key], value, filename, f"{path}{key}.")
        else:
            target[key] = value
