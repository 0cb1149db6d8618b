"""Run programs that were written for detectron2.

    python -m d2lite.compat train.py --num-gpus 1     # without changes to the program
    import d2lite.compat.detectron2                   # or: one line at its top
    python -m d2lite.compat --install                 # or: for all programs of the environment

After any of these, `import detectron2.anything` finds the same module object as `d2lite.anything`.

Names that only such programs use are listed in `table.py`, and defined in `old/` if nothing else
here uses them; `names.py` makes them available in the modules under both package names.
"""

from pathlib import Path

__all__ = ["ALIAS_FOLDER"]

ALIAS_FOLDER = Path(__file__).parent / "path"
"""Folder of the package `detectron2` and its metadata; adding it to `sys.path` makes the alias."""
