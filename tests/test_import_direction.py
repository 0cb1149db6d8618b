"""Imports go down the house, never up and never in a circle.

The rooms and what each may import stand in ALLOWED. Every import statement below `d2lite/` is read
from the source, those within functions too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "d2lite"

GROUND = {"utils"}
ALLOWED = {
    "": {"compat"},  # d2lite/__init__.py lets old names in
    "utils": set(),
    "config": GROUND,
    "layers": GROUND,
    "structures": GROUND | {"layers"},
    "visualization": GROUND | {"structures"},
    "data": GROUND | {"config", "structures", "visualization"},  # to draw what was read
    "solver": GROUND | {"config"},
    "checkpoint": GROUND,
    "modeling": GROUND | {"config", "layers", "structures", "visualization"},
    "evaluation": GROUND | {"config", "data", "structures", "visualization"},
    "tracking": GROUND | {"config", "data", "structures"},
}
MODELING_FLOORS = ALLOWED["modeling"] | {"modeling"}
ALLOWED["model_zoo"] = ALLOWED["export"] = MODELING_FLOORS | {"checkpoint"}
ALLOWED["projects"] = GROUND | {"config"}  # finds the packages that PROJECTS names
ALLOWED["engine"] = set(ALLOWED) - {"", "model_zoo", "engine"}

# The parts of `data` that models use: names of classes, and what test-time augmentation needs.
DATA_FOR_MODELING = ("d2lite.data.catalog", "d2lite.data.transforms", "d2lite.data.detection_utils")
ALSO_DATA_FOR_MODELING = {"modeling", "model_zoo", "export"}

# Imports within functions from one room to another; each is a sign that something is misplaced.
MAX_LAZY_IMPORTS = 8
# Outside of the house: may import anything, and nothing in the house imports it.
OUTSIDE = {"compat", "commands", "__main__"}


class Import(NamedTuple):
    """One imported module: by which module, at which line, and whether at its top."""

    importer: str
    line: int
    imported: str
    at_top: bool

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: imports {self.imported}"


def module_name(path: Path, package: Path = PACKAGE) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    return {module_name(path, package): path for path in sorted(package.rglob("*.py"))}


def imports_of(name: str, path: Path, known: set[str]) -> Iterator[Import]:
    """All imports of our own modules by one file, save those that are for annotations only."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    never_run = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    deep = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(outer)
    }
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if id(node) in never_run:
            continue
        for imported in imported_modules(node, package, known):
            yield Import(name, node.lineno, imported, id(node) not in deep)


def imported_modules(node: ast.AST, package: str, known: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if is_ours(alias.name))
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:  # relative: from .x import y
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, *([node.module] if node.module else [])])
        if is_ours(base):
            for alias in node.names:  # a name may be a module of its own
                full = f"{base}.{alias.name}"
                yield full if full in known else base


def is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE.name


def room_of(module: str) -> str:
    return [*module.split("."), ""][1]


def may_import(importer: str, imported: str) -> bool:
    room, other = room_of(importer), room_of(imported)
    if room == other or other == "" or room in OUTSIDE:
        return True  # d2lite itself holds the version only
    if other in ALLOWED[room]:
        return True
    return room in ALSO_DATA_FOR_MODELING and is_within(imported, DATA_FOR_MODELING)


def is_within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Circles of a directed graph: one for each edge that leads back in a depth-first walk."""
    found, done = [], set()

    def walk(node: str, path: list[str]) -> None:
        if node in path:
            found.append([*path[path.index(node) :], node])
            return
        if node in done:
            return
        for neighbor in sorted(edges.get(node, ())):
            walk(neighbor, [*path, node])
        done.add(node)

    for node in sorted(edges):
        walk(node, [])
    return found


@pytest.fixture(scope="module")
def all_imports() -> list[Import]:
    known = modules()
    return [x for name, path in known.items() for x in imports_of(name, path, set(known))]


def test_every_room_is_in_the_table():
    rooms = {room_of(name) for name in modules()}
    assert rooms <= set(ALLOWED) | OUTSIDE


def test_imports_go_down(all_imports):
    wrong = [str(x) for x in all_imports if not may_import(x.importer, x.imported)]
    assert not wrong, "these imports go up or sideways:\n" + "\n".join(wrong)


def test_no_import_circles(all_imports):
    edges: dict[str, set[str]] = {}
    for x in all_imports:
        if x.at_top:
            edges.setdefault(x.importer, set()).add(x.imported)
    found = [" -> ".join(circle) for circle in circles(edges)]
    assert not found, "these imports go in a circle:\n" + "\n".join(found)


def test_few_imports_between_rooms_wait_in_functions(all_imports):
    lazy = [
        str(x)
        for x in all_imports
        if not x.at_top and room_of(x.importer) not in OUTSIDE | {room_of(x.imported)}
    ]
    assert len(lazy) <= MAX_LAZY_IMPORTS, "import at the top:\n" + "\n".join(lazy)


@pytest.mark.parametrize(
    "importer, imported, allowed",
    [
        ("d2lite.modeling.matcher", "d2lite.layers.nms", True),
        ("d2lite.modeling.matcher", "d2lite.data.catalog", True),
        ("d2lite.modeling.matcher", "d2lite.data.build", False),
        ("d2lite.modeling.matcher", "d2lite.engine", False),
        ("d2lite.utils.events", "d2lite.structures", False),
        ("d2lite.visualization.visualizer", "d2lite.structures", True),
        ("d2lite.visualization.visualizer", "d2lite.data.catalog", False),
        ("d2lite.config.defaults", "d2lite.utils.comm", True),
        ("d2lite.config.defaults", "d2lite.layers", False),
        ("d2lite.engine.defaults", "d2lite.model_zoo", False),
        ("d2lite.compat.detectron2", "d2lite.model_zoo", True),
        ("d2lite.engine.defaults", "d2lite.compat", False),
    ],
)
def test_the_table_itself(importer, imported, allowed):
    assert may_import(importer, imported) is allowed


def test_reader_sees_every_form_of_import(tmp_path):
    source = (
        "import torch\n"
        "import d2lite.utils.comm\n"
        "from d2lite.layers import nms, cat\n"
        "from . import sibling\n"
        "from .sibling import thing\n"
        "from ..structures import Boxes\n"
        "def f():\n"
        "    from d2lite.engine import hooks\n"
        "if TYPE_CHECKING:\n"
        "    from d2lite.tracking import Tracker\n"
    )
    path = tmp_path / "b.py"
    path.write_text(source)
    known = {"d2lite.layers.nms", "d2lite.a.sibling", "d2lite.engine.hooks"}
    got = [(x.line, x.imported, x.at_top) for x in imports_of("d2lite.a.b", path, known)]
    assert got == [
        (2, "d2lite.utils.comm", True),
        (3, "d2lite.layers.nms", True),
        (3, "d2lite.layers", True),
        (4, "d2lite.a.sibling", True),
        (5, "d2lite.a.sibling", True),
        (6, "d2lite.structures", True),
        (8, "d2lite.engine.hooks", False),
    ]


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}}) == []
