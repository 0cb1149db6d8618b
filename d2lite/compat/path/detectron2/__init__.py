"""Lets a child process find the alias: this folder's parent is on its PYTHONPATH.

Processes that a program spawns import its main module anew, before anything of d2lite.
"""

DOORWAY = True

import d2lite.compat.detectron2  # noqa: E402, F401
