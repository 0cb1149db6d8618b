"""The report of `d2lite data check`: what a folder of data contains, and what is wrong with it."""

import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from d2lite.data.image_io import read_image, read_image_size
from d2lite.data.layouts.labeled import LabeledImages
from d2lite.data.layouts.splits import file_hash
from d2lite.data.layouts.table import read_folder

SMALL, LARGE = 32**2, 96**2
"""Areas in pixels that bound COCO's small, medium and large objects."""
FEW_OBJECTS = 10
"""A class with fewer training objects is reported."""
CROWDED_IOU, SAME_IOU = 0.5, 0.95
_HASH_SIDE = 16


class Finding(NamedTuple):
    """Something about the data that is wrong, or may be."""

    severity: str
    """"error": training stops at it or learns wrongly; "warning": worth a look."""
    text: str
    files: list[str]
    """The images concerned, relative to the root."""


@dataclass
class DataReport:
    """Result of `check_folder`."""

    data: LabeledImages
    images: dict[str, int]
    """Number of images of each split."""
    empty: dict[str, int]
    """Number of images without objects of each split."""
    classes: list[dict]
    """For each class: "name", and the number of "objects" and "images" by split."""
    sizes: np.ndarray
    """(R, 2) widths and heights of all boxes in pixels."""
    shares: np.ndarray
    """(R, 4) boxes as shares of their images, x0, y0, x1, y1."""
    per_image: np.ndarray
    """(N,) objects of each image."""
    crowded: float
    """Share of boxes that overlap another box of their image with an IoU of at least 0.5."""
    findings: list[Finding] = field(default_factory=list)

    def has_errors(self) -> bool:
        """Return whether there is a finding with severity "error"."""
        return any(finding.severity == "error" for finding in self.findings)

    def size_shares(self) -> tuple[float, float, float]:
        """Return the shares of small, medium and large boxes, by COCO's bounds."""
        areas = self.sizes.prod(axis=1)
        small, large = float((areas < SMALL).mean()), float((areas >= LARGE).mean())
        return small, 1 - small - large, large


def check_folder(
    path: str, layout: str | None = None, *, decode: bool = True, threads: int = 4
) -> DataReport:
    """Read a folder of any layout and look at every image and box.

    Args:
        path: folder or annotation file.
        layout: a name in `LAYOUTS`; detected by default.
        decode: decode every image to find damaged ones and pictures that look alike; otherwise
            only the headers of the files are read.
        threads: number of threads that read images.
    Raises:
        ValueError, OSError: the annotations cannot be read at all; as `read_folder`.
    """
    with _warnings_of_readers() as said:
        data = read_folder(path, layout)
    report = _count(data)
    found = report.findings
    if data.missing:
        found.append(
            Finding(
                "error",
                f"images not found: {len(data.missing)}, the first is {data.missing[0]}",
                [],
            )
        )
    found += [Finding("warning", text, []) for text in dict.fromkeys([*said, *data.notes])]
    _check_images(data, found, decode, threads)
    _check_boxes(data, found)
    _check_classes(report)
    return report


@contextlib.contextmanager
def _warnings_of_readers() -> Iterator[list[str]]:
    """Collect the messages of the warnings that are logged while data are read."""
    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    package = logging.getLogger("d2lite.data")
    handler, propagates = Collect(logging.WARNING), package.propagate
    package.addHandler(handler)
    package.propagate = False
    try:
        yield said
    finally:
        package.removeHandler(handler)
        package.propagate = propagates


def _box(annotation: dict) -> list[float]:
    """Return the upright box; for a rotated one, an upright box of the same size and center."""
    box = annotation["bbox"]
    if len(box) == 5:
        x, y, w, h, _ = box
        return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    return box


def _count(data: LabeledImages) -> DataReport:
    classes = [
        {"name": name, "objects": Counter(), "images": Counter()} for name in data.class_names
    ]
    boxes, sides, per_image, crowded = [], [], [], 0
    for split, records in data.splits.items():
        for record in records:
            annotations = record["annotations"]
            per_image.append(len(annotations))
            for annotation in annotations:
                classes[annotation["category_id"]]["objects"][split] += 1
                boxes.append(_box(annotation))
                sides.append((record["width"], record["height"]) * 2)
            for category in {annotation["category_id"] for annotation in annotations}:
                classes[category]["images"][split] += 1
            if len(annotations) > 1:
                overlap = _overlaps(np.array([_box(a) for a in annotations]))
                crowded += int((overlap.max(axis=1) >= CROWDED_IOU).sum())
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return DataReport(
        data,
        images={split: len(records) for split, records in data.splits.items()},
        empty={
            split: sum(not record["annotations"] for record in records)
            for split, records in data.splits.items()
        },
        classes=classes,
        sizes=corners[:, 2:] - corners[:, :2],
        shares=corners / np.array(sides, dtype=np.float64).reshape(-1, 4),
        per_image=np.array(per_image),
        crowded=crowded / max(len(boxes), 1),
    )


def _overlaps(boxes: np.ndarray) -> np.ndarray:
    """Return the (R, R) IoU of (R, 4) boxes, with 0 on the diagonal."""
    corner = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    sides = (corner - np.maximum(boxes[:, None, :2], boxes[None, :, :2])).clip(min=0)
    inner = sides.prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = areas[:, None] + areas[None] - inner
    overlap = inner / np.where(union > 0, union, 1)
    np.fill_diagonal(overlap, 0)
    return overlap


class _Looked(NamedTuple):
    """Result of checking an image file."""

    problem: str  # "" for none
    content: str  # hash of the file
    look: bytes  # equal for pictures that look alike; b"" if not decoded or without features


def _look(record: dict, decode: bool) -> _Looked:
    path = record["file_name"]
    try:
        height, width = read_image_size(path)
        look = b""
        if decode:
            gray = read_image(path, "L")[:, :, 0]
            height, width = gray.shape
            small = cv2.resize(gray, (_HASH_SIDE + 1, _HASH_SIDE), interpolation=cv2.INTER_AREA)
            brighter = small[:, 1:].astype(int) > small[:, :-1].astype(int) + 2
            # Few differences mean a plain picture; plain pictures look alike without being copies.
            look = np.packbits(brighter).tobytes() if brighter.sum() > 16 else b""
        problem = ""
        if (height, width) != (record["height"], record["width"]):
            turned = (width, height) == (record["height"], record["width"])
            problem = (
                f"the image is {width} x {height} (width x height), but its annotation says "
                f"{record['width']} x {record['height']}"
                + ("; boxes refer to the image as stored, without its EXIF rotation" * turned)
            )
        return _Looked(problem, file_hash(path), look)
    except (OSError, ValueError) as error:
        return _Looked(str(error).removeprefix(f"{path}: "), "", b"")


def _check_images(data: LabeledImages, found: list[Finding], decode: bool, threads: int) -> None:
    entries = [(split, record) for split, records in data.splits.items() for record in records]
    with ThreadPoolExecutor(threads) as pool:
        looked = list(pool.map(lambda entry: _look(entry[1], decode), entries))
    bad = [
        (data.relative(record), one.problem)
        for (_, record), one in zip(entries, looked, strict=True)
        if one.problem
    ]
    if bad:
        text = f"images that cannot be used: {len(bad)}, the first is {bad[0][0]}: {bad[0][1]}"
        found.append(Finding("error", text, [name for name, _ in bad]))
    copies: set[tuple[str, ...]] = set()
    for key, what in (("content", "the same file"), ("look", "pictures that look the same")):
        groups: dict[object, list[tuple[str, str]]] = defaultdict(list)
        for (split, record), one in zip(entries, looked, strict=True):
            if getattr(one, key):
                groups[getattr(one, key)].append((split, data.relative(record)))
        repeated = [group for group in groups.values() if len(group) > 1]
        new = [group for group in repeated if tuple(sorted(n for _, n in group)) not in copies]
        copies |= {tuple(sorted(name for _, name in group)) for group in repeated}
        across = [group for group in new if len({split for split, _ in group}) > 1]
        if across:
            splits = " and ".join(sorted({split for split, _ in across[0]}))
            names = [name for group in across for _, name in group]
            severity = "error" if key == "content" else "warning"
            text = f"leaks, {what} in {splits}: {len(across)}, such as {names[0]} and {names[1]}"
            found.append(Finding(severity, text, names))
        within = [group for group in new if len({split for split, _ in group}) == 1]
        if within:
            names = [name for group in within for _, name in group]
            text = f"copies, {what} in a split: {len(within)}, such as {names[0]} and {names[1]}"
            found.append(Finding("warning", text, names))


def _check_boxes(data: LabeledImages, found: list[Finding]) -> None:
    outside, twice, tiny = [], [], []
    for record in data.records():
        boxes = np.array([_box(a) for a in record["annotations"]]).reshape(-1, 4)
        if not len(boxes):
            continue
        name = data.relative(record)
        limit = np.array([record["width"], record["height"]])
        beyond = (boxes[:, :2] < -1).any(axis=1) | (boxes[:, 2:] > limit + 1).any(axis=1)
        outside += [name] * int(beyond.sum())
        tiny += [name] * int(((boxes[:, 2:] - boxes[:, :2]) < 2).any(axis=1).sum())
        same = _overlaps(boxes) >= SAME_IOU
        kinds = np.array([a["category_id"] for a in record["annotations"]])
        twice += [name] * int((same & (kinds[:, None] == kinds[None])).sum() // 2)
    for names, text in (
        (outside, "boxes that extend beyond their image by more than a pixel"),
        (tiny, "boxes less than 2 pixels wide or high"),
        (twice, "pairs of boxes of one class that are nearly the same"),
    ):
        if names:
            files = list(dict.fromkeys(names))
            found.append(Finding("warning", f"{text}: {len(names)}, such as in {files[0]}", files))


def _check_classes(report: DataReport) -> None:
    splits = list(report.images)
    train = "train" if "train" in splits else splits[0]
    counts = {row["name"]: row["objects"] for row in report.classes}
    for name, objects in counts.items():
        without = [split for split in splits if not objects[split]]
        if len(without) == len(splits):
            text = f"class {name!r} has no object"
        elif without:
            text = f"class {name!r} has no object in {', '.join(without)}"
        elif objects[train] < FEW_OBJECTS:
            text = f"class {name!r} has only {objects[train]} objects in {train}"
        else:
            continue
        report.findings.append(Finding("warning", text, []))
