"""Draw losses, AP, learning rate, and speed of one or more runs.

examples:
  d2lite plot runs/cells-1                        into runs/cells-1/results.png
  d2lite plot runs/cells-1 runs/cells-2 --output both.png
  d2lite plot runs/cells-1 --terminal             as text
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or metrics.json")
    parser.add_argument(
        "--output", metavar="FILE", help="picture to write (results.png in the first run)"
    )
    parser.add_argument("--terminal", action="store_true", help="print the curves as text")


def run(args: argparse.Namespace) -> None:
    """Draw or print."""
    import os
    import shutil

    from d2lite.utils.run_curves import PICTURE, draw_in_terminal, draw_runs, read_runs

    runs = read_runs(args.runs)
    if args.terminal:
        print(draw_in_terminal(runs, width=min(shutil.get_terminal_size().columns, 100)))
        return
    first = args.runs[0]
    folder = first if os.path.isdir(first) else os.path.dirname(first)
    path = args.output or os.path.join(folder, PICTURE)
    draw_runs(runs, path)
    print(f"Drew {', '.join(runs)} into {path}")
