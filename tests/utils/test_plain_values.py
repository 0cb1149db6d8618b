"""The bounds of values from untrusted files."""

import pytest

from d2lite.utils.plain_values import parts_of, require_bounded


def test_bounds_are_of_the_tree_that_references_make():
    inner = [1, 2]
    require_bounded([inner, inner, {"a": inner}], depth=3, size=30)
    with pytest.raises(ValueError, match="deeper than 2"):
        require_bounded([inner, inner, {"a": inner}], depth=2, size=30)
    with pytest.raises(ValueError, match="more than 8 values"):
        require_bounded([inner, inner, {"a": inner}], depth=3, size=8)


@pytest.mark.parametrize(
    "value, size, containers",
    [
        ([], 1, []),
        ((1, [2], "x"), 4, [[2]]),
        ({"a": {"b": 1}, "c": 2}, 3, [{"b": 1}]),
        ({1, 2}, 3, []),
        (["x" * 64, b"y" * 31], 1 + 2 + 2, []),  # every 32 letters count
    ],
)
def test_parts_of_containers(value, size, containers):
    assert parts_of(value) == (size, containers)


@pytest.mark.parametrize("value", [5, "text", None, b"ab"])
def test_other_values_have_no_parts_and_no_bounds(value):
    assert parts_of(value) is None
    require_bounded(value, depth=0, size=0)


@pytest.mark.parametrize("count", [1, 2])
def test_containers_that_contain_themselves_are_refused(count):
    outer = [[] for _ in range(count)]
    for index, inner in enumerate(outer):
        inner.append(outer[(index + 1) % count])
    with pytest.raises(ValueError, match="contains itself"):
        require_bounded(outer[0], depth=100, size=100)


def test_a_few_references_that_expand_to_billions_are_refused_at_once():
    value = [1]
    for _ in range(40):
        value = [value, value]
    with pytest.raises(ValueError, match="more than 1000000 values"):
        require_bounded(value, depth=100, size=10**6)


def test_limits_are_allowed_themselves():
    value = [[1, 2], [3]]  # 1 + 2, 1 + 2 and 1 + 1
    require_bounded(value, depth=2, size=8)
    with pytest.raises(ValueError, match="more than 7 values"):
        require_bounded(value, depth=2, size=7)


def test_containers_of_other_kinds_have_parts_by_a_function():
    class Box:
        def __init__(self, *inner):
            self.inner = inner

    def parts(value):
        return (1, list(value.inner)) if isinstance(value, Box) else None

    require_bounded(Box(Box()), depth=2, size=2, parts=parts)
    with pytest.raises(ValueError, match="deeper than 1 "):
        require_bounded(Box(Box()), depth=1, size=2, parts=parts)
