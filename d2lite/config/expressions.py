"""Safe arithmetic for yaml configs, where detectron2's configs use an `eval` tag.

For example, they write RetinaNet's anchor sizes as
`[[x, x * 2**(1.0/3), x * 2**(2.0/3)] for x in [32, 64, 128]]` and crop sizes as
`[int(x * 0.1 * 640) for x in range(5, 21)]`. Such expressions are evaluated here node by node.
Attributes are not allowed, and only the functions in `_FUNCTIONS` can be called.
"""

import ast
import operator
from collections.abc import Callable, Iterator
from typing import Any

from d2lite.utils.errors import quoted

# Far above what configs need, and low enough that no expression takes noticeable time or memory.
MAX_LENGTH = 2000  # characters of an expression
MAX_DEPTH = 40  # brackets within brackets, in the expression or in its value
MAX_STEPS = 100_000  # operations, and items iterated over
MAX_ITEMS = 10_000  # of one sequence, and of the whole value
MAX_BITS = 64  # of an integer

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_SIGNS = {ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Not: operator.not_}
_COMPARISONS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class ExpressionError(ValueError):
    """An expression that is too large or is not arithmetic over literals."""


def evaluate(text: str) -> Any:
    """Return the value of an expression over literals.

    It may contain numbers, strings, lists, tuples, dicts, comprehensions, conditions, indexing, the
    operators + - * / // % **, comparisons, and calls of range, int, float, round, abs, min, max,
    sum, len, list and tuple. Ranges and generators become lists.

    Raises:
        ExpressionError: it contains anything else, is too large, or has no value, such as 1/0.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"it has {len(text)} characters; at most {MAX_LENGTH} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        evaluator = _Evaluator()
        return evaluator.plain(evaluator.value(tree.body))
    except SyntaxError as error:
        raise ExpressionError(f"it is not a Python expression: {error.msg}") from None
    except (ArithmeticError, LookupError, TypeError) as error:
        raise ExpressionError(f"{type(error).__name__}: {error}") from None
    except ExpressionError:
        raise
    except (RecursionError, MemoryError, ValueError) as error:
        # Python's parser itself gives up on deep nesting in these ways.
        reason = str(error) or type(error).__name__
        raise ExpressionError(f"it cannot be read: {reason}") from None


class _Evaluator:
    """Evaluates the nodes of an expression within a budget of steps.

    The length of every sequence is bounded, and only numbers and strings are compared, so no single
    Python operation takes long, even on nested sequences that share their items.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._depth = 0
        self._names: dict[str, Any] = {}  # variables of the enclosing comprehensions

    def value(self, node: ast.AST) -> Any:
        """Evaluate a node."""
        method = getattr(self, f"_{type(node).__name__}", None)
        if method is None:
            raise ExpressionError(f"{_KINDS.get(type(node), ast.unparse(node)[:60])} not allowed")
        self._spend(1)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"it is nested more than {MAX_DEPTH} deep")
        found = method(node)
        self._depth -= 1
        # Of a kind that configs can have, and small.
        if isinstance(found, int):
            _check_bits(found.bit_length())
        elif isinstance(found, list | tuple | range | str | dict):
            _check_items(len(found))
        elif not isinstance(found, float | None):
            raise ExpressionError(f"{_shown(found)} is not a value of a config")
        return found

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Copy a value with lists instead of ranges; shared items are counted each time."""
        self._spend(1)
        if depth > MAX_DEPTH:
            raise ExpressionError(f"its value is nested more than {MAX_DEPTH} deep")
        if isinstance(value, dict):
            return {key: self.plain(x, depth + 1) for key, x in value.items()}
        if isinstance(value, list | tuple | range):
            kind = tuple if isinstance(value, tuple) else list
            return kind(self.plain(x, depth + 1) for x in self._items(value))
        return value

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise ExpressionError(f"it takes more than {MAX_STEPS} steps")

    def _items(self, value: Any) -> list | tuple | range:
        """Return a sequence to iterate over, and spend its length from the budget."""
        if not isinstance(value, list | tuple | range):
            raise ExpressionError(f"{_shown(value)} is not a list, tuple or range")
        self._spend(len(value))
        return value

    def _Constant(self, node: ast.Constant) -> Any:
        if not isinstance(node.value, bool | int | float | str | None):
            raise ExpressionError(f"{_shown(node.value)} is not a number or string")
        return node.value

    def _Name(self, node: ast.Name) -> Any:
        if node.id not in self._names:
            raise ExpressionError(f"the name {node.id!r} has no value")
        return self._names[node.id]

    def _List(self, node: ast.List) -> list:
        return [self.value(item) for item in node.elts]

    def _Tuple(self, node: ast.Tuple) -> tuple:
        return tuple(self.value(item) for item in node.elts)

    def _Dict(self, node: ast.Dict) -> dict:
        if None in node.keys:
            raise ExpressionError("** in a dict is not allowed")
        keys = [_scalar(self.value(key)) for key in node.keys]
        return dict(zip(keys, map(self.value, node.values), strict=True))

    def _UnaryOp(self, node: ast.UnaryOp) -> Any:
        if type(node.op) not in _SIGNS:
            raise ExpressionError("~ is not allowed")
        operand = self.value(node.operand)
        return _SIGNS[type(node.op)](operand)

    def _BinOp(self, node: ast.BinOp) -> Any:
        function = _ARITHMETIC.get(type(node.op))
        if function is None:
            raise ExpressionError(f"the operator in {quoted(ast.unparse(node))} is not allowed")
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(left, _NUMBER) and isinstance(right, _NUMBER):
            if function is operator.pow and isinstance(left, int) and isinstance(right, int):
                _check_bits(max(left.bit_length() - 1, 0) * max(right, 0))
            return function(left, right)
        if function is operator.add:
            _check_items(_length(left) + _length(right))
        elif function is operator.mul:
            items, count = (right, left) if isinstance(left, int) else (left, right)
            if not isinstance(count, int):
                raise ExpressionError(f"cannot multiply {_shown(left)} by {_shown(right)}")
            _check_items(_length(items) * count)
        else:
            raise ExpressionError(f"cannot compute with {_shown(left)} and {_shown(right)}")
        return function(left, right)

    def _BoolOp(self, node: ast.BoolOp) -> Any:
        stops_at = isinstance(node.op, ast.Or)
        for operand in node.values:
            found = self.value(operand)
            if bool(found) == stops_at:
                break
        return found

    def _Compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for operation, operand in zip(node.ops, node.comparators, strict=True):
            if isinstance(operation, ast.Is | ast.IsNot):
                raise ExpressionError("`is` is not allowed")
            right = self.value(operand)
            if isinstance(operation, ast.In | ast.NotIn):
                among = [_scalar(item) for item in self._items(right)]
                found = (_scalar(left) in among) == isinstance(operation, ast.In)
            else:
                found = _COMPARISONS[type(operation)](_scalar(left), _scalar(right))
            if not found:
                return False
            left = right
        return True

    def _IfExp(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _Subscript(self, node: ast.Subscript) -> Any:
        items = self.value(node.value)
        if not isinstance(items, list | tuple | range | dict | str):
            raise ExpressionError(f"{_shown(items)} has no items")
        if isinstance(node.slice, ast.Slice):
            bounds = (node.slice.lower, node.slice.upper, node.slice.step)
            return items[slice(*(None if x is None else self.value(x) for x in bounds))]
        return items[_scalar(self.value(node.slice))]

    def _Call(self, node: ast.Call) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)[:60]
        if name not in _FUNCTIONS or name in self._names:
            raise ExpressionError(f"the call of {name!r} is not allowed")
        if node.keywords or any(isinstance(x, ast.Starred) for x in node.args):
            raise ExpressionError(f"{name} takes plain arguments only")
        arguments = [self.value(argument) for argument in node.args]
        if name in ("len", "list", "tuple"):
            arguments = [self._items(x) for x in arguments]
        elif name in ("min", "max", "sum"):
            # Sums of lists are written with +.
            arguments = [x if isinstance(x, _NUMBER) else self._numbers(x) for x in arguments]
        elif name == "float" and len(arguments) == 1 and isinstance(arguments[0], str):
            pass  # float("inf")
        else:
            arguments = [_number(x) for x in arguments]
            if name == "round" and len(arguments) == 2 and abs(arguments[1]) > 30:
                raise ExpressionError(f"round to {arguments[1]} digits is not allowed")
        return _FUNCTIONS[name](*arguments)

    def _numbers(self, value: Any) -> list:
        return [_number(item) for item in self._items(value)]

    def _ListComp(self, node: ast.ListComp | ast.GeneratorExp) -> list:
        outside = self._names
        found: list[Any] = []
        for names in self._loop(node.generators, outside):
            self._names = names
            found.append(self.value(node.elt))
            _check_items(len(found))
        self._names = outside
        return found

    _GeneratorExp = _ListComp

    def _loop(
        self, generators: list[ast.comprehension], names: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Yield the names that each round of a comprehension has."""
        if not generators:
            yield names
            return
        first, *inner = generators
        if first.is_async:
            raise ExpressionError("async is not allowed")
        self._names = names
        for item in self._items(self.value(first.iter)):
            here = {**names, **_assigned(first.target, item)}
            self._names = here
            if all(self.value(condition) for condition in first.ifs):
                yield from self._loop(inner, here)


_NUMBER = (int, float)
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (range, int, float, round, abs, min, max, sum, len, list, tuple)
}
_KINDS = {
    ast.Attribute: "an attribute (a dot after a name) is",
    ast.Lambda: "lambda is",
    ast.Starred: "* before a list is",
    ast.JoinedStr: "an f-string is",
    ast.NamedExpr: ":= is",
    ast.Set: "a set is",
    ast.SetComp: "a set is",
    ast.DictComp: "a comprehension of a dict is",
    ast.Slice: "a slice is",
    ast.Await: "await is",
    ast.Yield: "yield is",
    ast.YieldFrom: "yield is",
}


def _assigned(target: ast.expr, item: Any) -> dict[str, Any]:
    """Return the names that a comprehension gives to an item: one, or several to a pair."""
    if isinstance(target, ast.Name):
        return {target.id: item}
    names = target.elts if isinstance(target, ast.Tuple | ast.List) else []
    if not names or not all(isinstance(name, ast.Name) for name in names):
        raise ExpressionError(f"cannot loop over {quoted(ast.unparse(target))}")
    if not isinstance(item, list | tuple) or len(item) != len(names):
        raise ExpressionError(f"{_shown(item)} cannot be split into {len(names)} names")
    return {name.id: x for name, x in zip(names, item, strict=True)}


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise ExpressionError(f"an integer in it has more than {MAX_BITS} bits")


def _check_items(count: int) -> None:
    if count > MAX_ITEMS:
        raise ExpressionError(f"a sequence in it has more than {MAX_ITEMS} items")


def _length(value: Any) -> int:
    if not isinstance(value, list | tuple | str):
        raise ExpressionError(f"cannot compute with {_shown(value)}")
    return len(value)


def _number(value: Any) -> Any:
    if not isinstance(value, _NUMBER):
        raise ExpressionError(f"{_shown(value)} is not a number")
    return value


def _scalar(value: Any) -> Any:
    if not isinstance(value, bool | int | float | str | None):
        raise ExpressionError(f"{_shown(value)} is not a number or string")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
