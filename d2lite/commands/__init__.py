"""The program `d2lite`: one module per command, imported when the command is called.

A module has a docstring, which is its help (a sentence, then examples), `add_arguments(parser)`
and `run(args)`, and imports nothing heavy at its top.
"""

import argparse
import importlib
import shutil
import sys
from collections.abc import Sequence

from d2lite import __version__
from d2lite.utils.registry import did_you_mean

__all__ = ["COMMANDS", "build_parser", "main"]

COMMANDS = {
    "train": "train a detector on your own data or from a config",
    "eval": "compute the metrics of a trained model",
    "predict": "detect objects in images, videos, or a camera stream",
    "data": "check, convert, split, and draw images with labels",
    "plot": "draw losses, AP, learning rate, and speed of runs",
    "report": "write an HTML page about one or two runs",
    "export": "export a model to ONNX or torch.export",
    "configs": "list the configs of the model zoo, or show one",
    "info": "describe this installation, or a checkpoint",
}

_HELP = """\
d2lite {version}: train detectors on your images, and use them.

  d2lite train --data photos/         any common layout of images and labels
  d2lite predict new/ --weights runs/train-1

commands:
{commands}

`d2lite COMMAND --help` shows the options of a command."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the command line names.

    Args:
        argv: the arguments after the program name; default: those of this process.

    Raises:
        SystemExit: with the status of the command, unless that is 0.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS)) + 4
        rows = "\n".join(f"  {name:{width}}{summary}" for name, summary in COMMANDS.items())
        print(_HELP.format(version=__version__, commands=rows))
        return
    if words[0] in ("-V", "--version"):
        print(__version__)
        return
    name = words[0]
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        print(
            f"d2lite has no command {name!r}.{hint} Commands: {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        sys.exit(2)
    module = importlib.import_module(f"{__name__}.{name}")
    parser = build_parser(name)
    # argparse cannot intermix options and positional arguments in parsers with subparsers.
    has_actions = hasattr(module, "ACTIONS")
    parse = parser.parse_args if has_actions else parser.parse_intermixed_args
    args = parse(words[1:])

    from d2lite.utils.cli import report_user_errors  # imports torch: not needed for --help

    with report_user_errors():
        status = module.run(args)
    if status:
        sys.exit(status)


def build_parser(name: str) -> argparse.ArgumentParser:
    """Build the parser of a command.

    Args:
        name: one of `COMMANDS`.
    """
    module = importlib.import_module(f"{__name__}.{name}")
    width = min(shutil.get_terminal_size().columns, 100)
    parser = argparse.ArgumentParser(
        prog=f"d2lite {name}",
        description=module.__doc__,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=34, width=width
        ),
    )
    module.add_arguments(parser)
    return parser
