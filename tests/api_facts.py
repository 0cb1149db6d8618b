"""Compares d2lite with the list of detectron2's public names in `reference/api.json`.

Every difference is one line of text, "where: what", that `test_api.py` can name as an exception.
"""

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

API = json.loads((Path(__file__).parent / "reference" / "api.json").read_text())
SECTIONS = ("public_modules", "submodules")
MISSING = object()
# Names whose value says which library is installed, here as there.
VALUES_OF_THE_MACHINE = {"TORCH_VERSION"}
OLD, NEW = "detectron2", "d2lite"

# What a parameter that the reference gives in one kind may be here: a caller cannot tell.
KINDS = {
    "positional_or_keyword": {"positional_or_keyword"},
    "positional_only": {"positional_only", "positional_or_keyword"},
    "keyword_only": {"keyword_only", "positional_or_keyword"},
}
KIND_NAMES = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional_or_keyword",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
    inspect.Parameter.VAR_POSITIONAL: "*args",
    inspect.Parameter.VAR_KEYWORD: "**kwargs",
}


def find_module(name: str) -> Any:
    """The module of d2lite at a path such as "data.build", or MISSING."""
    try:
        return importlib.import_module(f"{NEW}.{name}")
    except ImportError as error:
        if error.name and error.name.startswith(NEW):
            return MISSING
        raise


def find_name(module: Any, name: str) -> Any:
    """A name of a module, or MISSING, where d2lite does not have it or says what to use instead."""
    try:
        return getattr(module, name, MISSING)
    except ImportError:
        return MISSING


def name_differences() -> Iterator[str]:
    """All differences of modules and of the names in them."""
    for section in SECTIONS:
        for path, facts in API[section].items():
            module = find_module(path)
            if module is MISSING:
                yield f"{path}: no such module"
                continue
            for name, entry in facts["names"].items():
                yield from entry_differences(f"{path}.{name}", module, name, entry)


def entry_differences(where: str, module: Any, name: str, entry: dict) -> Iterator[str]:
    """Differences of one name of a module."""
    if entry["kind"] == "module":
        path = entry["name"].removeprefix(OLD + ".")
        if find_module(path) is MISSING:
            yield f"{where}: missing"
        return
    found = find_name(module, name)
    if found is MISSING:
        yield f"{where}: missing"
    elif entry["kind"] == "function":
        yield from function_differences(where, found, entry["params"])
    elif entry["kind"] == "class":
        yield from class_differences(where, found, entry)
    else:
        yield from object_differences(where, found, entry)


def object_differences(where: str, found: Any, entry: dict) -> Iterator[str]:
    """Differences of a constant in type and, where it is written down, in value."""
    types = {cls.__name__ for cls in type(found).__mro__}
    if entry["type"] not in types:
        yield f"{where}: is of type {type(found).__name__}, not {entry['type']}"
    of_the_machine = where.rpartition(".")[2] in VALUES_OF_THE_MACHINE
    if "value" in entry and not of_the_machine and not same_value(found, entry["value"]):
        yield f"{where}: is {found!r}, not {entry['value']}"


def is_borrowed(found: Any) -> bool:
    """Whether this is a library's own object, whose parameters are not ours to keep."""
    return not getattr(found, "__module__", NEW).startswith(NEW)


def class_differences(where: str, found: Any, entry: dict) -> Iterator[str]:
    """Differences of a class: bases, constructor, methods, properties, constants."""
    if not inspect.isclass(found):
        yield f"{where}: is not a class"
        return
    if "full_entry_at" in entry:
        section, path, name = entry["full_entry_at"].split("/")
        full = API[section][path]["names"][name]
        if getattr(find_module(path), name, MISSING) is not found:
            yield f"{where}: is not the same object as {path}.{name}"
        elif full["kind"] == "class":
            return  # compared there
    if is_borrowed(found):
        if found.__module__.split(".")[0] != entry["defined_in"].split(".")[0]:
            yield f"{where}: comes from {found.__module__}"
        return
    yield from base_differences(where, found, entry)
    if entry["init"] is not None and "members" not in entry:
        yield from function_differences(f"{where}.__init__", found.__init__, entry["init"])
    for name, method in (entry.get("methods") or {}).items():
        yield from method_differences(f"{where}.{name}", found, name, method)
    for name in entry.get("properties") or ():
        if not hasattr(found, name) and name not in fields_of(found):
            yield f"{where}.{name}: missing property"
    for name, value in entry.get("members", {}).items():
        if getattr(found, name, MISSING) is MISSING or found[name].value != value:
            yield f"{where}.{name}: is not the member {value!r}"
    for name, value in entry.get("class_attributes", {}).items():
        if not same_value(getattr(found, name, MISSING), value):
            found_value = repr(getattr(found, name)) if hasattr(found, name) else "missing"
            yield f"{where}.{name}: is {found_value}, not {value}"


def fields_of(found: type) -> set[str]:
    """Names that instances have by annotation (of a dataclass or a named tuple)."""
    return {name for cls in found.__mro__ for name in vars(cls).get("__annotations__", {})}


def base_differences(where: str, found: type, entry: dict) -> Iterator[str]:
    known = {cls.__name__ for cls in found.__mro__}
    for base in entry["bases"]:
        if base not in known:
            yield f"{where}: is not a {base}"
    if entry.get("configurable_from_cfg") and not hasattr(found, "from_config"):
        yield f"{where}: cannot be built from a config"


def method_differences(where: str, found: type, name: str, method: dict) -> Iterator[str]:
    ours = getattr(found, name, MISSING)
    if ours is MISSING:
        yield f"{where}: missing method"
        return
    how = method.get("how")
    kept = inspect.getattr_static(found, name)
    if how in ("staticmethod", "classmethod") and not isinstance(kept, staticmethod | classmethod):
        yield f"{where}: is not a {how}"
    if not is_borrowed(ours):
        yield from function_differences(where, ours, method["params"])


def function_differences(where: str, found: Any, expected: list[dict] | None) -> Iterator[str]:
    """Parameters that a call written for detectron2 would miss.

    More parameters than the reference has are fine where they have a default.
    """
    if not callable(found):
        yield f"{where}: cannot be called"
        return
    if expected is None or is_borrowed(found):
        return
    ours = list(inspect.signature(found).parameters.values())
    yield from expected_differences(where, ours, expected)
    known = {"self"} | {p["name"] for p in expected}
    takes_any = any(p.get("kind") == "**kwargs" for p in expected)
    for parameter in ours:
        asked = parameter.default is parameter.empty and KIND_NAMES[parameter.kind][0] != "*"
        if asked and parameter.name not in known and not takes_any:
            yield f"{where}({parameter.name}): is asked for here only"


def expected_differences(where: str, ours: list, expected: list[dict]) -> Iterator[str]:
    by_name = {p.name: (index, p) for index, p in enumerate(ours)}
    our_kinds = {KIND_NAMES[p.kind] for p in ours}
    for index, parameter in enumerate(expected):
        kind, name = parameter.get("kind", "positional_or_keyword"), parameter["name"]
        here = f"{where}({name})"
        if kind in ("*args", "**kwargs"):
            if kind not in our_kinds:
                yield f"{where}({'*' if kind == '*args' else '**'}{name}): not taken"
            continue
        if name not in by_name:
            yield f"{here}: missing parameter"
            continue
        our_index, our = by_name[name]
        if kind != "keyword_only" and our_index != index:
            yield f"{here}: is at place {our_index}, not {index}"
        if KIND_NAMES[our.kind] not in KINDS[kind]:
            yield f"{here}: is {KIND_NAMES[our.kind]}, not {kind}"
        if "default" in parameter and not same_value(our.default, parameter["default"]):
            default = "absent" if our.default is our.empty else repr(our.default)
            yield f"{here}: default is {default}, not {parameter['default']}"


def same_value(ours: Any, written: str) -> bool:
    """Whether a value is the one that the reference wrote down.

    Long values are cut off there. Of functions, classes and other objects only the name counts.
    """
    if ours is inspect.Parameter.empty or ours is MISSING:
        return False
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError):
        name = getattr(ours, "__qualname__", type(ours).__qualname__)
        named = re.search(rf"\b{re.escape(name)}\b", written) is not None
        return repr(ours).startswith(written) or named
    return type(ours) is type(value) and ours == value


def registry_differences() -> Iterator[str]:
    """Registries that cannot be imported from where they were, or lack a registered name."""
    for variable, facts in API["registries"].items():
        seen = []
        for path in facts["importable_from"]:
            registry = getattr(find_module(path.removeprefix(OLD + ".")), variable, MISSING)
            if registry is MISSING:
                yield f"{path.removeprefix(OLD + '.')}.{variable}: missing"
            else:
                seen.append(registry)
        if any(registry is not seen[0] for registry in seen):
            yield f"{variable}: is not one object"
        if seen:
            lacking = [name for name in facts["registered"] if name not in seen[0]]
            yield from (f"{variable}: {name} is not registered" for name in lacking)
            if seen[0]._name != facts["registry_name"]:
                yield f"{variable}: is called {seen[0]._name!r}, not {facts['registry_name']!r}"


def dataset_differences() -> Iterator[str]:
    """Built-in datasets that are not registered, and metadata that they lack."""
    from d2lite.data import DatasetCatalog, MetadataCatalog

    known = set(DatasetCatalog.list())
    yield from (f"{name}: not registered" for name in API["builtin_datasets"] if name not in known)
    for name, facts in API["builtin_metadata_keys"].items():
        metadata = MetadataCatalog.get(name).as_dict()
        for key, value in facts.items():
            if key not in metadata:
                yield f"{name}.{key}: missing"
            elif not same_fact(metadata[key], value):
                yield f"{name}.{key}: is {str(metadata[key])[:60]}, not {value}"


def same_fact(ours: Any, fact: Any) -> bool:
    """The reference writes long values as "list of 80"."""
    if isinstance(fact, str) and fact.split(" of ")[0] in ("list", "dict", "tuple"):
        kind, size = fact.split(" of ")
        return type(ours).__name__ == kind and len(ours) == int(size.split()[0])
    return ours == fact
