"""Arguments shared by programs. Nothing heavy is imported here, so that `--help` is fast."""

import argparse
import os
import re
from collections.abc import Sequence

# SEED, OUTPUT_DIR, SOLVER.BASE_LR, MODEL.RESNETS.RES2_OUT_CHANNELS
_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z][A-Z0-9_]*)+|[A-Z][A-Z0-9_]{3,}")


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--config-file`, also called `--config`."""
    parser.add_argument(
        "--config-file",
        "--config",
        default="",
        metavar="NAME",
        help="name in the model zoo, or path of a file",
    )


def add_overrides(parser: argparse.ArgumentParser, *, anywhere: bool = False) -> None:
    """Add the settings at the end of the command line, `opts`.

    Args:
        anywhere: whether options may follow them, for `parse_intermixed_args`.
    """
    parser.add_argument(
        "opts",
        nargs="*" if anywhere else argparse.REMAINDER,
        metavar="KEY VALUE",
        help="settings to override; path.key=value for Python configs",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all training programs share, except for the overrides."""
    add_config_argument(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="resume from the last checkpoint of OUTPUT_DIR, if any",
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument(
        "--num-gpus", type=int, default=1, metavar="N", help="processes on *this* machine"
    )
    parser.add_argument(
        "--num-machines", type=int, default=1, metavar="N", help="machines taking part"
    )
    parser.add_argument(
        "--machine-rank", type=int, default=0, metavar="I", help="number of this machine, from 0"
    )
    parser.add_argument(
        "--dist-url", default="auto", metavar="URL", help="tcp://HOST:PORT where the processes meet"
    )


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split words into those before the first config key, and the overrides from there on.

    For programs that take several files and then KEY VALUE pairs.
    """
    for index, word in enumerate(words):
        if _KEY.fullmatch(word) and not os.path.exists(word):
            return list(words[:index]), list(words[index:])
    return list(words), []
