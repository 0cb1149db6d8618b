"""Check, convert, split, and draw labeled images in any common layout.

examples:
  d2lite data check photos/ --html check.html     count the contents and find problems
  d2lite data convert photos/ out/ --to yolo      all layouts: coco, voc, yolo, csv, ...
  d2lite data split photos/ out/ --val 0.2 --test 0.1
  d2lite data show photos/ --output seen/         draw the labels into the images
  d2lite data anchors photos/                     anchor settings that fit the boxes

`d2lite data ACTION --help` shows the options of each.
"""

import argparse
import shutil
from collections.abc import Callable
from typing import Any

LAYOUT_NAMES = (
    *("coco", "roboflow", "voc", "labelimg", "yolo", "csv", "via", "labelme", "cvat"),
    "open_images",
)
_HELP = {
    "check": """\
Count what a dataset contains, and find problems.

It finds missing and damaged images, copies within and between splits, boxes that are empty, outside
the image, or duplicated, and classes without objects. The exit status is 1 if there are errors:
problems that would stop training or make it learn wrong labels.

examples:
  d2lite data check photos/
  d2lite data check photos/ --html check.html     with plots and pictures, in one file
""",
    "convert": """\
Write a dataset in another layout, copying or linking its images.

Annotations that the other layout cannot represent (outlines, keypoints, crowds) are counted.
Layouts: {layouts}.

examples:
  d2lite data convert photos/ out/ --to coco
  d2lite data convert annotations.xml out/ --to yolo --link
""",
    "split": """\
Split a dataset into train, val and, if asked for, test, and write it to a new folder.

Each class with two or more images is in both parts; copies of an image stay together. The same
seed gives the same split. Existing splits are ignored.

examples:
  d2lite data split photos/ out/ --val 0.2
  d2lite data split photos/ out/ --val 0.15 --test 0.15 --seed 3 --to coco --link
""",
    "show": """\
Draw the labels of a dataset into its images, to check that they were read correctly.

examples:
  d2lite data show photos/
  d2lite data show photos/ --split val --num 0 --output seen/
""",
    "anchors": """\
Find anchors that fit the boxes of a dataset, and print them as settings.

The boxes are measured as the detector sees them, in images resized according to its config.

examples:
  d2lite data anchors photos/
  d2lite data anchors photos/ --formats rpn --levels 4 --config quick_start
""",
}


_OUTPUT = {"metavar": "OUTPUT", "help": "new folder"}
_LINK = {"action": "store_true", "help": "link images instead of copying them"}
_ARGUMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "check": {
        "--html": {"metavar": "FILE", "help": "write a page with plots and pictures"},
        "--num": {"type": int, "default": 24, "metavar": "N", "help": "pictures in it (24)"},
        "--fast": {
            "action": "store_true",
            "help": "read only the headers of images, do not decode them",
        },
    },
    "convert": {
        "output": _OUTPUT,
        "--to": {"required": True, "metavar": "NAME", "help": "layout to write"},
        "--link": _LINK,
    },
    "split": {
        "output": _OUTPUT,
        "--to": {"metavar": "NAME", "help": "layout to write (default: that of PATH)"},
        "--link": _LINK,
        "--val": {"type": float, "default": 0.2, "metavar": "X", "help": "share of val (0.2)"},
        "--test": {"type": float, "default": 0.0, "metavar": "X", "help": "share of test (0)"},
        "--seed": {"type": int, "default": 0, "metavar": "N", "help": "of the split (0)"},
    },
    "show": {
        "--output": {"default": "seen", "metavar": "DIR", "help": "for the pictures (seen)"},
        "--num": {"type": int, "default": 20, "metavar": "N", "help": "how many; 0: all (20)"},
        "--split": {"metavar": "NAME", "help": "only train, val, or test"},
    },
    "anchors": {
        "--formats": {
            "default": "rpn,ssd,yolo",
            "metavar": "A,B",
            "help": "of rpn,ssd,yolo (all)",
        },
        "--config": {
            "default": "",
            "metavar": "NAME",
            "help": "config with the INPUT sizes, for RPN",
        },
        **{
            flag: {"type": int, "default": default, "metavar": "N", "help": f"{text} ({default})"}
            for flag, default, text in (
                ("--levels", 5, "RPN: feature maps"),
                ("--ratios", 3, "RPN: aspect ratios"),
                ("--ssd-size", 300, "SSD: side of the images"),
                ("--ssd-levels", 6, "SSD: feature maps"),
                ("--ssd-ratios", 1, "SSD: aspect ratios"),
                ("--yolo-size", 416, "YOLO: side of the images"),
                ("--num", 9, "YOLO: anchors in all"),
            )
        },
        "--iou": {
            "type": float,
            "default": 0.5,
            "metavar": "X",
            "help": "IoU from which a box counts as covered (0.5)",
        },
        "--seed": {
            "type": int,
            "default": 0,
            "metavar": "N",
            "help": "of the initial centers of k-means (0)",
        },
        "--plot": {"metavar": "FILE", "help": "draw boxes and anchors into a picture"},
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.usage = "d2lite data ACTION PATH [options]"
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    width = min(shutil.get_terminal_size().columns, 100)
    for name, text in _HELP.items():
        one = actions.add_parser(
            name,
            prog=f"d2lite data {name}",
            description=text.format(layouts=", ".join(LAYOUT_NAMES)),
            help=text.partition(".")[0],
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
                prog, max_help_position=34, width=width
            ),
        )
        one.add_argument("path", metavar="PATH", help="folder, or annotation file")
        for flag, options in _ARGUMENTS[name].items():
            one.add_argument(flag, **options)
        one.add_argument("--layout", metavar="NAME", help="of PATH, if it is not recognized")


def run(args: argparse.Namespace) -> int | None:
    """Run the chosen action; returns the exit status."""
    return ACTIONS[args.action](args)


def _check(args: argparse.Namespace) -> int:
    from d2lite.data.layouts.check import check_folder

    report = check_folder(args.path, args.layout, decode=not args.fast)
    print(describe(report))
    if args.html:
        from d2lite.commands.data_page import write_page

        write_page(report, args.html, args.num)
        print(f"\nThe page is {args.html}")
    return int(report.has_errors())


def describe(report) -> str:
    """Return the report of `check_folder` as text."""
    import numpy as np
    from tabulate import tabulate

    from d2lite.data.layouts import LAYOUTS

    lines = [f"{report.data.root}: {LAYOUTS[report.data.layout].title}", ""]
    for headers, rows in (split_table(report), class_table(report)):
        lines += [tabulate(rows, headers=headers), ""]
    if any(sum(row["objects"].values()) for row in report.classes):
        small, medium, large = (f"{100 * share:.1f}%" for share in report.size_shares())
        width, height = np.median(report.sizes, axis=0)
        ratios = report.sizes[:, 1] / report.sizes[:, 0]
        low, middle, high = np.percentile(ratios, (5, 50, 95))
        lines += [
            f"boxes: {small} small, {medium} medium, {large} large (limits 32^2 and 96^2 pixels), "
            f"median {width:.0f} x {height:.0f} pixels",
            f"height / width: {low:.2f} to {high:.2f} for 90% of the boxes, median {middle:.2f}",
            f"objects per image: {report.per_image.mean():.1f} on average, at most "
            f"{report.per_image.max()}; {100 * report.crowded:.1f}% overlap another by half",
            f"to learn: {', '.join(report.data.kinds())}",
        ]
    errors = [finding for finding in report.findings if finding.severity == "error"]
    others = [finding for finding in report.findings if finding.severity != "error"]
    lines += ["", f"{len(errors)} errors, {len(others)} warnings"]
    lines += [f"  {finding.severity}: {finding.text}" for finding in errors + others]
    return "\n".join(lines)


def split_table(report) -> tuple[list[str], list[list]]:
    """Return the headers and rows of a table of the splits of a report."""
    rows = [
        [split, count, report.empty[split], sum(row["objects"][split] for row in report.classes)]
        for split, count in report.images.items()
    ]
    return ["split", "images", "without objects", "objects"], rows


def class_table(report) -> tuple[list[str], list[list]]:
    """Return the headers and rows of a table of the classes of a report."""
    splits = list(report.images)
    total = max(sum(sum(row["objects"].values()) for row in report.classes), 1)
    headers = ["class", *(f"objects in {split}" for split in splits), "images", "of all objects"]
    rows = [
        [row["name"], *(row["objects"][split] for split in splits)]
        + [sum(row["images"].values()), f"{100 * sum(row['objects'].values()) / total:.1f}%"]
        for row in report.classes
    ]
    return headers, rows


def _convert(args: argparse.Namespace) -> None:
    from d2lite.data.layouts import read_folder

    _write(read_folder(args.path, args.layout), args.output, args.to, args.link)


def _write(data, output: str, layout: str, link: bool) -> None:
    from d2lite.data.layouts import LAYOUTS, write_folder

    lost = write_folder(data, output, layout, link=link)
    sizes = ", ".join(f"{len(records)} {split}" for split, records in data.splits.items())
    print(f"Wrote {sizes} images as {LAYOUTS[layout].title} to {output}")
    for note in data.notes:
        print(f"  {note}")
    for what, count in lost.items():
        print(f"  lost, because the layout cannot store them: {count} {what}")


def _split(args: argparse.Namespace) -> None:
    from d2lite.data.layouts import read_folder, split_records
    from d2lite.utils.errors import ArgumentError

    if not 0 <= args.test < 1 or not 0 < args.val < 1 - args.test:
        raise ArgumentError(
            f"--val {args.val:g} and --test {args.test:g}: expected fractions of the images that "
            "leave some for training"
        )
    data = read_folder(args.path, args.layout)
    data.require_images()
    rest = list({record["file_name"]: record for record in data.records()}.values())
    splits = {}
    if args.test:
        rest, splits["test"] = split_records(data, rest, args.test, args.seed)
    rest, splits["val"] = split_records(data, rest, args.val / (1 - args.test), args.seed)
    data.splits = {"train": rest, "val": splits["val"], **splits}
    _write(data, args.output, args.to or data.layout, args.link)


def _show(args: argparse.Namespace) -> None:
    from d2lite.data import Metadata
    from d2lite.data.datasets.preview import draw_dataset_dicts, save_pictures
    from d2lite.data.layouts import read_folder
    from d2lite.utils.errors import ArgumentError

    data = read_folder(args.path, args.layout)
    if args.split is not None and args.split not in data.splits:
        raise ArgumentError(
            f"{args.path}: there is no split {args.split!r}; it has {', '.join(data.splits)}"
        )
    records = data.records() if args.split is None else data.splits[args.split]
    chosen = spread(records, args.num)
    metadata = Metadata(name=args.path).set(**data.metadata())
    paths = save_pictures(draw_dataset_dicts(chosen, metadata), args.output)
    print(f"Read {len(records)} images; drew {len(paths)} of them into {args.output}")


def spread(records: list[dict], count: int) -> list[dict]:
    """Return `count` of the records, evenly spaced; all of them for 0."""
    if count <= 0 or count >= len(records):
        return records
    return [records[index * len(records) // count] for index in range(count)]


def _anchors(args: argparse.Namespace) -> None:
    from d2lite.config.files import find_config
    from d2lite.data.anchor_fit import FITTERS, draw, quality, read_sizes
    from d2lite.data.layouts import read_folder
    from d2lite.engine import config_from_args
    from d2lite.utils.errors import ArgumentError
    from d2lite.utils.registry import did_you_mean

    formats = args.formats.split(",")
    for name in formats:
        if name not in FITTERS:
            raise ArgumentError(
                f"--formats: {name!r} is not one of {', '.join(FITTERS)}."
                f"{did_you_mean(name, FITTERS)}"
            )
    counts = ("levels", "ratios", "ssd_size", "ssd_levels", "ssd_ratios", "yolo_size", "num")
    for name in counts:
        if getattr(args, name) < 1:
            raise ArgumentError(f"--{name.replace('_', '-')} must be at least 1")
    cfg = config_from_args(
        argparse.Namespace(config_file=find_config(args.config), opts=[], eval_only=True)
    )
    data = read_folder(args.path, args.layout)
    split = "train" if "train" in data.splits else next(iter(data.splits))
    boxes, images = read_sizes(data.splits[split])
    print(f"{len(boxes)} boxes in {len(data.splits[split])} images ({split})")
    fits = [FITTERS[name](boxes, images, args, cfg) for name in formats]
    for fit in fits:
        print(f"\n{fit.title}: {quality(fit.best_iou(), args.iou)}\n{fit.text}")
    if args.plot:
        draw(fits, args.plot)
        print(f"\nDrawn into {args.plot}")


ACTIONS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "check": _check,
    "convert": _convert,
    "split": _split,
    "show": _show,
    "anchors": _anchors,
}
