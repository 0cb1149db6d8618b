"""Datasets in one CSV file with a row for each box, as in the Global Wheat Detection challenge.

    csv:train.csv?images=train

The file starts with a header that names at least these columns, in any order:

    image_id,width,height,bbox
    b6ab77fd7,1024,1024,"[834.0, 222.0, 56.0, 36.0]"

`bbox` is [x, y, width, height] in pixels; it is empty for an image without objects. A column
`class` names the class of each box; without it, there is one class. Other columns are not read.
Options, joined by `&`:

    images=DIR        folder of the images; by default that of the CSV file
    extension=.png    file extension of the images, added to `image_id`; by default .jpg
    classes=a,b       names and order of the classes; boxes of other classes are left out. Without a
                      column `class`: the name of the single class, by default "object"
"""

import csv
import io
import json
import logging
import os
from collections.abc import Iterator
from typing import NamedTuple

from d2lite.data.catalog import ResolvedDataset, register_scheme
from d2lite.data.datasets.uri import DatasetURI, parse_dataset_uri
from d2lite.data.missing_files import missing_files
from d2lite.structures import BoxMode
from d2lite.utils.file_io import PathManager, read_text
from d2lite.utils.registry import did_you_mean

logger = logging.getLogger(__name__)

COLUMNS = ("image_id", "width", "height", "bbox")
CLASS_COLUMN = "class"


class _Row(NamedTuple):
    """One line of the file; `where` names it in messages."""

    where: str
    image_id: str
    size: tuple[int, int]  # (height, width)
    bbox: list[float] | None  # XYWH; None for an image without objects
    class_name: str | None


def resolve_csv(uri: str) -> ResolvedDataset:
    """Resolve a URI `csv:FILE?images=DIR&extension=.jpg&classes=a,b`.

    Raises:
        FileNotFoundError: the file or the folder of images does not exist.
        ValueError: the URI, the header or a row is malformed.
    """
    if not uri.partition(":")[2].partition("?")[0]:
        raise ValueError(f"dataset {uri!r}: no file after 'csv:', as in 'csv:train.csv?images=D'")
    parsed = parse_dataset_uri(uri, ("images", "extension"))
    if not PathManager.isfile(parsed.path):
        raise FileNotFoundError(f"dataset {uri!r}: file not found: {parsed.path!r}")
    images = os.path.expanduser(parsed.options.get("images", os.path.dirname(parsed.path) or "."))
    if not PathManager.isdir(images):
        raise FileNotFoundError(
            f"dataset {uri!r}: image folder {images!r} not found; give it as '?images=DIR'"
        )
    extension = parsed.options.get("extension", ".jpg")
    classes = _choose_classes(parsed)
    return ResolvedDataset(
        lambda: load_csv_boxes(parsed.path, images, classes, extension),
        {"thing_classes": classes, "image_root": images, "evaluator_type": "coco"},
    )


def _choose_classes(parsed: DatasetURI) -> list[str]:
    found = {row.class_name for row in _read_rows(parsed.path) if row.class_name is not None}
    if not found:
        if parsed.classes and len(parsed.classes) > 1:
            raise ValueError(
                f"dataset {parsed.text!r}: 'classes' has {len(parsed.classes)} names, but "
                f"{parsed.path} has no column {CLASS_COLUMN!r}, so all boxes are of one class"
            )
        return parsed.classes or ["object"]
    for name in parsed.classes or []:
        if name not in found:
            raise ValueError(
                f"dataset {parsed.text!r}: {parsed.path} has no box of class {name!r}."
                f"{did_you_mean(name, found)} It has: {', '.join(sorted(found))}"
            )
    return parsed.classes or sorted(found)


def load_csv_boxes(
    csv_file: str, images: str, classes: list[str], extension: str = ".jpg"
) -> list[dict]:
    """Load the file as dataset dicts, one for each image, in the order of the file.

    Boxes without area are dropped and counted in one warning.

    Args:
        csv_file: path of the file; its format is described at the top of this module.
        images: folder of the images.
        classes: names of the classes; boxes of other classes are left out. Without a column
            `class`, all boxes belong to the first.
        extension: file extension of the images, added to `image_id`.
    Raises:
        ValueError: a row is malformed, or two rows give different sizes for an image.
        FileNotFoundError: none of the images exists.
    """
    index = {name: i for i, name in enumerate(classes)}
    records: dict[str, dict] = {}
    without_area = []
    for row in _read_rows(csv_file):
        record = records.setdefault(row.image_id, _new_record(row, images, extension))
        if (record["height"], record["width"]) != row.size:
            raise ValueError(
                f"{row.where}: image {row.image_id!r} is {row.size[1]} x {row.size[0]} here, but "
                f"{record['width']} x {record['height']} in an earlier row"
            )
        if row.bbox is None or (row.class_name is not None and row.class_name not in index):
            continue
        if row.bbox[2] <= 0 or row.bbox[3] <= 0:
            without_area.append(row.where)
            continue
        record["annotations"].append(
            {
                "bbox": row.bbox,
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 0 if row.class_name is None else index[row.class_name],
            }
        )
    if without_area:
        logger.warning(
            "dropped %s boxes without area, the first in %s", len(without_area), without_area[0]
        )
    _check_images(csv_file, list(records.values()))
    logger.info("Loaded %s images from %s", len(records), csv_file)
    return list(records.values())


def _new_record(row: _Row, images: str, extension: str) -> dict:
    has_extension = row.image_id.lower().endswith(extension.lower())
    name = row.image_id if has_extension else row.image_id + extension
    return {
        "file_name": os.path.join(images, name),
        "image_id": row.image_id,
        "height": row.size[0],
        "width": row.size[1],
        "annotations": [],
    }


def _check_images(csv_file: str, records: list[dict]) -> None:
    """Raise an error if all images are missing; the loader reports individual ones."""
    missing = missing_files(record["file_name"] for record in records)
    if records and len(missing) == len(records):
        raise FileNotFoundError(
            f"{missing[0]}: this image of {csv_file} does not exist, nor does any other of the "
            f"{len(records)}; are '?images=DIR' and 'extension=.jpg' right?"
        )


def _read_rows(csv_file: str) -> Iterator[_Row]:
    reader = csv.DictReader(io.StringIO(read_text(csv_file)))
    columns = reader.fieldnames or []
    for column in COLUMNS:
        if column not in columns:
            raise ValueError(
                f"{csv_file}: the first line must name the columns {', '.join(COLUMNS)}, but "
                f"{column!r} is not among {', '.join(map(repr, columns)) or 'nothing'}."
                f"{did_you_mean(column, columns)}"
            )
    for values in reader:
        yield _parse_row(f"{csv_file}, line {reader.line_num}", values)


def _parse_row(where: str, values: dict) -> _Row:
    if None in values.values() or None in values:  # too few or too many cells
        raise ValueError(
            f"{where}: there must be one value for each column; a bbox must be quoted, "
            'such as "[834.0, 222.0, 56.0, 36.0]"'
        )
    if not values["image_id"]:
        raise ValueError(f"{where}: image_id is empty")
    try:
        size = int(values["height"]), int(values["width"])
    except ValueError:
        size = (0, 0)
    if min(size) <= 0:
        raise ValueError(
            f"{where}: width and height are {values['width']!r} and {values['height']!r}; expected "
            "positive whole numbers"
        )
    bbox = _parse_box(where, values["bbox"])
    class_name = values.get(CLASS_COLUMN)
    if class_name == "" and bbox is not None:
        raise ValueError(f"{where}: the box has no {CLASS_COLUMN}")
    return _Row(where, values["image_id"], size, bbox, class_name or None)


def _parse_box(where: str, text: str) -> list[float] | None:
    if not text.strip():
        return None
    try:
        box = json.loads(text)
        if len(box) != 4:
            raise ValueError
        return [float(value) for value in box]
    except (TypeError, ValueError):
        raise ValueError(f"{where}: bbox is {text!r}; expected '[x, y, width, height]'") from None


register_scheme("csv", resolve_csv)
