"""Rules of the house that can be read from the source."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "d2lite"
FILES = sorted(PACKAGE.rglob("*.py"))

# Methods that are called by an interface which describes them.
INTERFACE_METHODS = {"forward", "from_config"}

# Color, neighbor; center, centered; labeled; normalize; analyze and single words.
BRITISH = re.compile(
    r"(col|fav|hon|lab|behavi|neighb)our"
    r"|centre(s|d|\b)"
    r"|(label|model|cancel|travel|signal)l(ed|ing|er)"
    r"|\b\w*(normal|initial|optim|general|special|visual|serial|real|minim|maxim|recogn|organ"
    r"|summar|util|quant|standard|random|synchron|token)is(e|ed|es|ing|ation)\b"
    r"|analys(e|ed|ing)\b|catalogue|grey(s|ed)?\b|licence|misspelt|learnt|artefact|mill?imetre",
    re.IGNORECASE,
)
# A class of VOC, a keypoint of the shapes, a transform of SSD, and names misspelled on purpose.
NAMES = re.compile(r"aeroplane|[\"']centre[\"']|CentreCropTransform|GeneralisedRCNN")

MAX_FUNCTION_LINES = 80
MAX_FILE_LINES = 700  # what is read together stands together, as a visualizer does


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def where(path, node):
    return f"{path.relative_to(PACKAGE.parent)}:{node.lineno} {getattr(node, 'name', '')}".strip()


def functions(tree):
    return [x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef)]


def public_definitions(tree):
    """Public functions and classes of a module, and the public methods of these classes.

    Methods of an overriding class may leave their description to the class that they come from.
    """
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node
        if isinstance(node, ast.ClassDef) and not node.bases:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield method


def is_setter_or_overload(node):
    decorators = {ast.unparse(x).split(".")[-1] for x in node.decorator_list}
    return bool(decorators & {"setter", "overload"})


def lists_all_names(tree):
    return any(
        isinstance(node, ast.Assign | ast.AnnAssign)
        and "__all__" in ast.unparse(node).split("=")[0]
        for node in tree.body
    )


def test_utils_init_is_empty():
    assert (PACKAGE / "utils" / "__init__.py").read_text().strip() == ""


def test_no_star_imports():
    wrong = [
        where(path, node)
        for path in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]
    assert not wrong


def test_init_files_of_rooms_list_their_names():
    wrong = []
    for path in PACKAGE.rglob("__init__.py"):
        tree = parse(path)
        if any(isinstance(x, ast.ImportFrom) for x in tree.body) and not lists_all_names(tree):
            wrong.append(where(path, tree.body[0]))
    assert not wrong, "these re-export without an __all__"


def test_only_packages_list_their_names():
    wrong = [
        where(path, parse(path).body[0])
        for path in [*FILES, *ROOT.glob("projects/**/*.py")]
        if path.name != "__init__.py" and lists_all_names(parse(path))
    ]
    assert not wrong, "`__all__` belongs in __init__.py; write `import x as x` to re-export"


def test_the_spelling_is_american():
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {found[0]}"
        for path in sorted({*ROOT.glob("*/**/*.py"), *ROOT.glob("**/*.md")})
        if path != Path(__file__) and not {".venv", "reference"} & set(path.relative_to(ROOT).parts)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for found in BRITISH.finditer(NAMES.sub("", line))
    ]
    assert not wrong, "\n".join(wrong)


def test_public_names_are_described():
    wrong = [
        where(path, node)
        for path in FILES
        for node in public_definitions(parse(path))
        if not ast.get_docstring(node)
        and node.name not in INTERFACE_METHODS
        and not is_setter_or_overload(node)
    ]
    assert not wrong, "these need a docstring:\n" + "\n".join(wrong)


def definitions(path):
    """Return the names that a module defines; methods as Class.method."""
    found = set()
    for node in parse(path).body:
        if isinstance(node, ast.Assign):
            found |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
            for method in getattr(node, "body", []):
                if isinstance(node, ast.ClassDef) and isinstance(method, ast.FunctionDef):
                    found.add(f"{node.name}.{method.name}")
    return found


def test_the_map_in_design_points_at_definitions():
    section = (ROOT / "DESIGN.md").read_text(encoding="utf-8").split("### Where to look")[1]
    rows = [line.split("|") for line in section.split("##")[0].splitlines() if "`" in line]
    assert len(rows) > 10
    for _, _, files, names, _ in rows:
        paths, names = (re.findall(r"`([^`]+)`", cell) for cell in (files, names))
        for path, name in zip(paths, names, strict=True):
            assert name in definitions(PACKAGE / path), f"DESIGN.md: {path} does not define {name}"


def test_modules_are_described():
    wrong = [
        str(path.relative_to(PACKAGE.parent))
        for path in FILES
        if path.read_text().strip() and not ast.get_docstring(parse(path))
    ]
    assert not wrong, "these need a docstring at their top:\n" + "\n".join(wrong)


def test_functions_are_short():
    lengths = {
        where(path, node): node.end_lineno - node.lineno + 1
        for path in FILES
        for node in functions(parse(path))
    }
    too_long = {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES}
    assert not too_long


def test_files_are_short():
    lengths = {str(path.relative_to(PACKAGE.parent)): line_count(path) for path in FILES}
    # Tables of names are data, not code.
    tables = ("categories", "builtin_meta", "compat/table")
    too_long = {
        name: length
        for name, length in lengths.items()
        if length > MAX_FILE_LINES and not any(table in name for table in tables)
    }
    assert not too_long


def line_count(path):
    return len(path.read_text().splitlines())


def is_text_without_encoding(node):
    """Whether a call opens a text file in the encoding of the machine it runs on."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    if called.endswith((".read_text", ".write_text")):
        # The encoding may be given by position; metadata.Distribution.read_text takes a name.
        return not node.keywords and len(node.args) == called.endswith(".write_text")
    elif called == "open" or called.endswith(("PathManager.open", "path_manager.open")):
        given = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode")]
        mode = ast.literal_eval(given[0]) if given and isinstance(given[0], ast.Constant) else "r"
        if given and not isinstance(given[0], ast.Constant):
            return False  # handed through from a caller
    else:
        return False
    named = any(keyword.arg in ("encoding", None) for keyword in node.keywords)
    return "b" not in mode and not named


def test_text_files_are_opened_with_an_encoding():
    """Else a file written on one machine is not readable on another, such as on Windows."""
    root = PACKAGE.parent
    files = [*FILES, *root.glob("tools/*.py")]
    files += [p for p in root.glob("projects/**/*.py") if "tests" not in p.parts]
    wrong = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in files
        for node in ast.walk(parse(path))
        if is_text_without_encoding(node)
    ]
    assert not wrong, "give an encoding, or use read_text of utils.file_io: " + ", ".join(wrong)


def test_library_does_not_print():
    """Only programs print: these files are run as such, or serve the programs in `tools/`."""
    programs = {"__main__.py", "cli.py", "collect_env.py", "preview.py"}
    wrong = [
        where(path, node)
        for path in FILES
        if path.name not in programs and path.parent.name != "commands"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not wrong, "log instead:\n" + "\n".join(wrong)
