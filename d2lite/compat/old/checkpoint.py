"""Helpers of detectron2's report of matched weights."""

from collections.abc import Sequence
from itertools import takewhile


def _longest_common_prefix_str(names: Sequence[str]) -> str:
    """Return the characters that all names start with."""
    return "".join(_common_start(names))


def _common_start(sequences: Sequence[Sequence[str]]) -> list[str]:
    columns = zip(*sequences, strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


def _longest_common_prefix(names: Sequence[str]) -> str:
    """Return the dotted parts that all names start with, with a dot at the end, or "".

    >>> _longest_common_prefix(["abc.d", "abc.dfg"])
    'abc.'
    """
    common = _common_start([name.split(".") for name in names])
    return ".".join(common) + "." if common else ""


def _group_str(names: Sequence[str]) -> str:
    """Return names in the short form "prefix{a,b}", the four tensors of a BatchNorm as "bn_*"."""
    prefix = _longest_common_prefix_str(names)
    short = prefix + "{" + ",".join(name[len(prefix) :] for name in names) + "}"
    short = short.replace("bn_{beta,running_mean,running_var,gamma}", "bn_*")
    return short.replace("bn_beta,bn_running_mean,bn_running_var,bn_gamma", "bn_*")
