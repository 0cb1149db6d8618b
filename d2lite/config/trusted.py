"""The classes and functions that a yaml lazy config may call.

A lazy config in Python is a program that you have to trust. A yaml file looks like data, but its
`_target_` entries name functions to call, with arguments from the file. Unless you trust the file,
they may name only parts of models, data and optimizers.
"""

import inspect
import re
from typing import Any

from torch import nn

from d2lite.config.errors import ConfigYamlError
from d2lite.utils.errors import quoted, shortened
from d2lite.utils.registry import locate

TRUSTED_PACKAGES = [
    *(
        f"d2lite.{room}"
        for room in (
            "data",
            "evaluation",
            "layers",
            "modeling",
            "projects",
            "solver",
            "structures",
            "tracking",
        )
    ),
    "fvcore.common.param_scheduler",
    "fvcore.nn",
    "torch.nn",
    "torch.optim",
    "types.SimpleNamespace",
]
"""Packages, modules or objects; a program can append its own."""

# These can write any file, or load anything by name.
_NOT_FROM_FILES = ("d2lite.data.datasets", "d2lite.modeling.mmdet_wrapper")
# `LazyConfig.save` writes classes and partial functions as these calls; their argument is checked
# too.
_LOCATE = "d2lite.utils.registry.locate"
_PARTIAL = "d2lite.config.instantiate.partial_of"
# References to other entries and to the environment. Other omegaconf resolvers can create entries
# from text, which would escape the check.
_PLAIN_REFERENCE = re.compile(r"\$\{(?:[\w.\[\]-]+|oc\.env:\w+(?:,[\w ./-]*)?)\}")


def require_trusted_targets(content: Any, filename: str, key: str = "") -> None:
    """Raise an error if a yaml file calls anything but parts of models, data and optimizers.

    Args:
        content: content of the file, as dicts and lists.
        filename: for the message.
        key: position of `content` in the file.

    Raises:
        ConfigYamlError: names the file, the key and the target.
        ImportError: a target is in a trusted package, but does not exist.
    """
    if isinstance(content, list | tuple):
        for index, entry in enumerate(content):
            require_trusted_targets(entry, filename, f"{key}[{index}]")
    elif isinstance(content, str):
        if "${" in _PLAIN_REFERENCE.sub("", content):
            raise ConfigYamlError(
                f"{filename}: {shortened(key)} is {quoted(content)}; a reference may name "
                "another key, ${a.b}, or a variable, ${oc.env:NAME}, and nothing else"
            )
    elif isinstance(content, dict):
        for name, entry in content.items():
            require_trusted_targets(entry, filename, f"{key}.{name}" if key else str(name))
        if "_target_" in content:
            _require_trusted_call(content, filename, key)


def _require_trusted_call(call: dict, filename: str, key: str) -> None:
    target = call["_target_"]
    if isinstance(target, dict) or target == _PARTIAL:
        return  # the target is itself the result of a call, which has been checked
    name = str(target)
    if name == _LOCATE and set(call) == {"_target_", "name"}:
        name = str(call["name"])
    try:
        trusted = _is_trusted(name)
    except ImportError as error:
        raise ImportError(f"{filename}: {shortened(key) or 'the file'}: {error}") from None
    if not trusted:
        raise ConfigYamlError(
            f"{filename}: {shortened(key) or 'the file'} would call {quoted(name)}, which is not "
            "among the parts of models, data and optimizers that a yaml file may name. If you "
            "trust the file, load it with trust=True (--trust-config)"
        )


def _is_trusted(name: str) -> bool:
    name = re.sub(r"^detectron2\.", "d2lite.", name)
    if not _is_in_trusted_package(name) or re.search(r"(^|\.)_", name):
        return False
    # A module's imports are its attributes too: d2lite.data.common.pickle.loads.
    found = locate(name)
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        return False
    where = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    if where.startswith("torch.nn."):
        of_tensors = where.startswith(("torch.nn.init.", "torch.nn.functional."))
        return of_tensors or (inspect.isclass(found) and issubclass(found, nn.Module))
    return _is_in_trusted_package(where)


def _is_in_trusted_package(name: str) -> bool:
    def inside(package: str) -> bool:
        return name == package or name.startswith(f"{package}.")

    return any(map(inside, TRUSTED_PACKAGES)) and not any(map(inside, _NOT_FROM_FILES))
