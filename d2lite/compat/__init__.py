"""Run programs that were written for detectron2.

    python -m d2lite.compat train.py --num-gpus 1     # the program stays as it is
    import d2lite.compat.detectron2                   # or: one line at its top
    python -m d2lite.compat --install                 # or: for all programs of the environment

After any of them, `import detectron2.anything` finds the same module object as `d2lite.anything`.

Names that only such programs use are in `table.py` and, where they are functions of their own, in
`old/`; `names.py` lets every module of d2lite find them under both package names.
"""

from pathlib import Path

__all__ = ["ALIAS_FOLDER"]

ALIAS_FOLDER = Path(__file__).parent / "path"
"""The folder with the package `detectron2` and its metadata. On `sys.path`, it makes the alias."""
