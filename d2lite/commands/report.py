"""Write an HTML page about one or two runs: curves, AP, errors and their cost, images.

It needs only a browser. The detections are those of the last evaluation.

examples:
  d2lite report runs/cells-1                       into runs/cells-1/report.html
  d2lite report runs/cells-1 runs/cells-2 --output compared.html
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.usage = "d2lite report RUN [RUN2] [options]"
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--output", metavar="FILE", help="default: report.html in the first run")
    parser.add_argument(
        "--dataset", metavar="NAME", help="test set to show (default: the first of DATASETS.TEST)"
    )
    parser.add_argument(
        "--images", type=int, default=100, metavar="N", help="maximum number of images shown (100)"
    )


def run(args: argparse.Namespace) -> None:
    """Collect the data and write the page."""
    import os

    from d2lite.commands.report_data import collect
    from d2lite.commands.report_page import write_page
    from d2lite.utils.logger import setup_logger

    if len(args.runs) > 2:
        raise ValueError(f"a report shows one or two runs; got {len(args.runs)}")
    setup_logger()
    path = args.output or os.path.join(args.runs[0], "report.html")
    write_page(collect(args.runs, args.dataset, args.images), path)
    print(f"Wrote {path} ({os.path.getsize(path) / 2**20:.1f} MiB)")
