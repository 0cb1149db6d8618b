"""python -m d2lite.compat SCRIPT ARGS... runs a program of detectron2's unchanged."""

import os
import runpy
import sys
from pathlib import Path

from .detectron2 import install

USAGE = """usage: python -m d2lite.compat SCRIPT ARGS...
       python -m d2lite.compat -m MODULE ARGS..."""


def main(arguments: list[str]) -> None:
    """Run a script or module as the main program, with `detectron2` meaning d2lite."""
    as_module = arguments[:1] == ["-m"]
    program = arguments[as_module:]
    if not program or program[0] in ("-h", "--help"):
        sys.exit(USAGE)
    install()
    # Spawned processes take over sys.path, programs that are started take over PYTHONPATH.
    doorway = str(Path(__file__).parent / "path")
    sys.path.append(doorway)
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([doorway, *([inherited] if inherited else [])])
    sys.argv = program
    if as_module:
        sys.path.insert(0, os.getcwd())
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
        return
    script = Path(program[0])
    if not script.is_file():
        sys.exit(f"{script} is not a file\n{USAGE}")
    # Python does the same for a script that it is given.
    sys.path[0] = str(script.resolve().parent)
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
