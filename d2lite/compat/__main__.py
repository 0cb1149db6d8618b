"""python -m d2lite.compat SCRIPT ARGS... runs a program for detectron2 unchanged."""

import importlib.util
import os
import runpy
import sys
from pathlib import Path

import d2lite
from d2lite.compat import ALIAS_FOLDER
from d2lite.compat.environment import AliasError, add_alias, remove_alias, site_packages

USAGE = """usage: python -m d2lite.compat SCRIPT ARGS...
       python -m d2lite.compat -m MODULE ARGS...
       python -m d2lite.compat --install [--target FOLDER]
       python -m d2lite.compat --uninstall [--target FOLDER]

The first two run one program, in which `import detectron2` finds d2lite. --install does this for
every program in this Python environment, --uninstall undoes it. FOLDER: where to put the package,
instead of the environment's site-packages."""


def main(arguments: list[str]) -> None:
    """Run a script or module as the main program, with `detectron2` as an alias of d2lite; or
    install or remove the alias."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else 2)
    if arguments[0] in ("--install", "--uninstall"):
        _change_environment(*arguments)
    elif arguments[0] == "-m":
        _run_module(arguments[1:])
    elif arguments[0].startswith("-"):
        sys.exit(f"unknown option {arguments[0]}\n{USAGE}")
    else:
        _run_script(arguments)


def _change_environment(action: str, *options: str) -> None:
    target = None
    if options:
        if len(options) != 2 or options[0] != "--target":
            sys.exit(f"{action}: expected --target FOLDER, got {' '.join(options)}\n{USAGE}")
        target = Path(options[1]).absolute()
    try:
        if action == "--uninstall":
            removed = remove_alias(target)
            where = target or site_packages()
            print(f"Removed the alias from {where}" if removed else f"No alias found in {where}")
            return
        package = add_alias(target)
    except AliasError as error:
        sys.exit(str(error))
    print(f"{package}: `import detectron2` now finds d2lite {d2lite.__version__}")
    if str(package.parent) not in sys.path:
        print(f"Python looks there only if {package.parent} is on PYTHONPATH")


def _make_alias() -> None:
    """Make the alias in this process and in its children."""
    from d2lite.compat.detectron2 import install

    install()
    # Spawned processes inherit sys.path; other programs that are started inherit PYTHONPATH.
    inherited = os.environ.get("PYTHONPATH")
    paths = [str(ALIAS_FOLDER), *([inherited] if inherited else [])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def _run_module(program: list[str]) -> None:
    if not program:
        sys.exit(f"-m needs the name of a module\n{USAGE}")
    _make_alias()
    sys.argv = program
    if sys.path[0] != os.getcwd():
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.util.find_spec(program[0])
    except ModuleNotFoundError as error:  # a parent package, or one that it imports
        if not f"{program[0]}.".startswith(f"{error.name}."):
            raise
        found = None
    if found is None:
        sys.exit(f"No module named {program[0]}\n{USAGE}")
    runpy.run_module(program[0], run_name="__main__", alter_sys=True)


def _run_script(program: list[str]) -> None:
    script = Path(program[0])
    if not script.is_file():
        sys.exit(f"{script} is not a file\n{USAGE}")
    _make_alias()
    sys.argv = program
    # As Python does when it runs a script.
    sys.path[0] = str(script.resolve().parent)
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
