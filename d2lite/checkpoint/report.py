"""A report on loading a checkpoint, in a table short enough to read."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class IncompatibleKeys(NamedTuple):
    """Differences between the entries of a checkpoint and those of the model."""

    missing_keys: list[str]
    """names of the model that the checkpoint lacks"""
    unexpected_keys: list[str]
    """names of the checkpoint that the model lacks"""
    incorrect_shapes: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    """(name, shape in the checkpoint, shape in the model) of entries skipped because of these"""


def loading_report(source: str, model_keys: Iterable[str], found: IncompatibleKeys) -> str:
    """Return one line for a checkpoint that fits, or else a table of modules.

    Args:
        source: what was loaded.
        model_keys: all names of the model's state dict.
        found: how the checkpoint differs.
    """
    fate = dict.fromkeys(model_keys, "loaded")
    num_entries = len(fate)
    fate.update(dict.fromkeys(found.missing_keys, "missing"))
    fate.update(dict.fromkeys(found.unexpected_keys, "unexpected"))
    fate.update((name, "wrong shape") for name, _, _ in found.incorrect_shapes)
    groups = group_names(fate)
    num_loaded = list(fate.values()).count("loaded")
    lines = [f"{source}: {num_loaded} of the model's {num_entries} entries were loaded"]
    if any(found):
        lines += [f"  loaded       {_shown(*group)}" for group in groups["loaded"]]
        lines += [f"  missing      {_shown(*group)}" for group in groups["missing"]]
        lines += [
            f"  wrong shape  {name}: {shape} in the checkpoint, {own_shape} in the model"
            for name, shape, own_shape in found.incorrect_shapes
        ]
        lines += [f"  unexpected   {_shown(*group)}" for group in groups["unexpected"]]
    if num_loaded == 0:
        lines.append("  Nothing was loaded: these seem to be the weights of another model.")
    if found.missing_keys or found.incorrect_shapes:
        lines.append("  Entries that are missing or have a wrong shape keep their initial values.")
    if found.unexpected_keys:
        lines.append("  Unexpected entries are not used.")
    return "\n".join(lines)


def _shown(name: str, count: int) -> str:
    return f"{name} ({count})" if count > 1 else name


def group_names(kind_of: Mapping[str, str]) -> dict[str, list[tuple[str, int]]]:
    """Shorten a list of dotted names to modules in which all names have the same kind.

    Args:
        kind_of: the kind of each name.

    Returns:
        For each kind, ("backbone.res2.*", number of names) or (name, 1), in the order of names.
    """
    groups: dict[str, list[tuple[str, int]]] = defaultdict(list)
    _group_below("", [(name.split("."), name, kind) for name, kind in kind_of.items()], groups)
    return groups


def _group_below(
    prefix: str,
    entries: list[tuple[list[str], str, str]],
    groups: dict[str, list[tuple[str, int]]],
) -> None:
    """Group the names below `prefix`; entries are (parts after the prefix, full name, kind)."""
    kinds = {kind for _, _, kind in entries}
    if len(entries) == 1:
        groups[kinds.pop()].append((entries[0][1], 1))
        return
    if len(kinds) == 1 and prefix:
        groups[kinds.pop()].append((prefix + "*", len(entries)))
        return
    by_child: dict[str, list] = defaultdict(list)
    for parts, name, kind in entries:
        by_child[parts[0]].append((parts[1:] or [""], name, kind))
    for child, below in by_child.items():
        _group_below(f"{prefix}{child}.", below, groups)
