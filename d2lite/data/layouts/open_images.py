"""Open Images: tables of boxes as shares of the image, and images named by their id."""

import csv
import io

from d2lite.data.image_io import read_image_size
from d2lite.data.layouts.csv_table import read_rows
from d2lite.data.layouts.files import Folder, split_of
from d2lite.data.layouts.labeled import (
    ALL,
    LabeledImages,
    class_indices,
    counted,
    finish_records,
    relative_stem,
)
from d2lite.data.layouts.writing import Destination, Holds, shown_number
from d2lite.structures import BoxMode
from d2lite.utils.errors import shortened

HOLDS = Holds(crowds=True)
_BOX = ("XMin", "XMax", "YMin", "YMax")
_COLUMNS = (
    *("ImageID", "Source", "LabelName", "Confidence", *_BOX, "IsOccluded", "IsTruncated"),
    *("IsGroupOf", "IsDepiction", "IsInside"),
)
_CLASS_LIST = "class-descriptions-boxable.csv"


def find_open_images(folder: Folder) -> bool:
    """Return whether there is a table with ImageID, LabelName and XMin."""
    return bool(_tables(folder))


def _header(folder: Folder, file: str) -> list[str]:
    first = next(read_rows(folder.path(file), limit=2), None)
    return first[1] if first else []


def _tables(folder: Folder) -> list[str]:
    return [
        file
        for file in folder.candidates(".csv")
        if {"ImageID", "LabelName", *_BOX} <= set(_header(folder, file))
    ]


def read_open_images(folder: Folder) -> LabeledImages:
    """Read Open Images' tables of boxes; groups become crowds.

    Rows of images that the folder lacks are left out, since the tables list all images of the
    dataset. An image in a table of ImageIDs but without boxes is an image without objects.

    Raises:
        ValueError: a row is malformed, with file and line; or no image of the table exists.
    """
    data = LabeledImages("open_images", folder.root, [], {})
    labels, rows = {}, {}
    for file in _tables(folder):
        rows[file], names = _read_rows(folder, file, data)
        labels |= dict.fromkeys(names)
    described, only_used = _class_names(folder)
    names = {label: described.get(label, label) for label in labels}
    listed = [*described.values()] if described and not only_used else None
    if listed is not None and not set(names.values()) <= set(listed):
        listed = [*listed, *sorted(set(names.values()) - set(listed))]
    index = class_indices(names.values(), listed, folder.root)
    data.class_names = list(index)
    for file, by_image in rows.items():
        records = []
        for image, objects in (_empty_images(folder, file) | by_image).items():
            height, width = read_image_size(image)
            records.append(
                {
                    "file_name": image,
                    "image_id": relative_stem(image, folder.root),
                    "height": height,
                    "width": width,
                    "annotations": [
                        {
                            "category_id": index[names[label]],
                            "bbox": [x0 * width, y0 * height, x1 * width, y1 * height],
                            "bbox_mode": BoxMode.XYXY_ABS,
                            "iscrowd": crowd,
                        }
                        for label, (x0, x1, y0, y1), crowd in objects
                    ],
                }
            )
        source = folder.path(file)
        done = finish_records(
            records, source, lambda record, i: f"box number {i} of {record['image_id']}"
        )
        data.splits.setdefault(split_of(file), []).extend(done)
    return data


def _read_rows(
    folder: Folder, file: str, data: LabeledImages
) -> tuple[dict[str, list[tuple]], set[str]]:
    """Return (label, box, crowd) of each box by existing image, and all labels; boxes as `_BOX`."""
    path = folder.path(file)
    rows = read_rows(path)
    _, header = next(rows)
    column = {name: header.index(name) for name in header}
    places: dict[str, str | None] = {}
    found: dict[str, list[tuple]] = {}
    labels = set()
    absent = 0
    for line, row in rows:
        if len(row) < len(header):
            raise ValueError(
                f"{path}, line {line}: {len(row)} cells, but the header has {len(header)}; the "
                "file seems to be cut off or edited: download or write it again"
            )
        name = row[column["ImageID"]]
        if name not in places:
            places[name] = folder.find_image(name, file)
        image = places[name]
        if image is None:
            absent += 1
            continue
        cells = [row[column[key]] for key in _BOX]
        try:
            box = [float(cell) for cell in cells]
        except ValueError:
            box = [2.0]
        if not all(-0.01 <= value <= 1.01 for value in box):
            raise ValueError(
                f"{path}, line {line}: {', '.join(_BOX)} are {shortened(', '.join(cells))}; "
                "expected shares of the image from 0 to 1"
            )
        crowd = int("IsGroupOf" in column and row[column["IsGroupOf"]] == "1")
        label = row[column["LabelName"]]
        labels.add(label)
        found.setdefault(image, []).append((label, box, crowd))
    if absent and not found:
        name = next(iter(places))
        data.missing.append(f"{name} ({path}; nor is any other of its images)")
    elif absent:
        data.notes.append(f"{path}: left out {counted(absent, 'box')} of images that are not here")
    return found, labels


def _class_names(folder: Folder) -> tuple[dict[str, str], bool]:
    """Return the name of each label, and whether to keep only the labels that occur."""
    for file in folder.files:
        name = file.rpartition("/")[2].lower()
        if name.startswith("class-descriptions") or file.lower().endswith("metadata/classes.csv"):
            rows = [row for _, row in read_rows(folder.path(file)) if len(row) >= 2]
            rows = [row for row in rows if row[0] != "LabelName"]
            return {row[0]: row[1] for row in rows}, any(row[0].startswith("/m/") for row in rows)
    return {}, True


def _empty_images(folder: Folder, file: str) -> dict[str, list]:
    """Return the images of the file's split that a table of images lists."""
    found: dict[str, list] = {}
    for other in folder.files:
        if not other.lower().endswith(".csv") or split_of(other) != split_of(file):
            continue
        header = _header(folder, other)
        if "ImageID" in header and "LabelName" not in header:
            column = header.index("ImageID")
            rows = read_rows(folder.path(other))
            next(rows)
            for _, row in rows:
                image = folder.find_image(row[column], other) if column < len(row) else None
                if image is not None:
                    found[image] = []
    return found


def write_open_images(target: Destination) -> None:
    """Write tables of boxes, images and classes, and a folder of images for each split."""
    names = target.data.class_names
    labels = [f"/class/{number:04}" for number in range(len(names))]
    for split, records in target.data.splits.items():
        word = "validation" if split == "val" else split
        boxes, images = io.StringIO(), io.StringIO()
        writer = csv.writer(boxes, lineterminator="\n")
        writer.writerow(_COLUMNS)
        listing = csv.writer(images, lineterminator="\n")
        listing.writerow(["ImageID"])
        for record in records:
            path = target.place_image(record, split, word if split != ALL else "images")
            number = path.rpartition("/")[2].rpartition(".")[0]
            listing.writerow([number])
            width, height = record["width"], record["height"]
            for annotation in record["annotations"]:
                x0, y0, x1, y1 = annotation["bbox"]
                shares = (x0 / width, x1 / width, y0 / height, y1 / height)
                writer.writerow(
                    [
                        *(number, "d2lite", labels[annotation["category_id"]], 1),
                        *(shown_number(min(max(share, 0.0), 1.0), 7) for share in shares),
                        *(0, 0, annotation.get("iscrowd", 0), 0, 0),
                    ]
                )
        prefix = "" if split == ALL else f"{word}-"
        target.write_text(boxes.getvalue(), f"{prefix}annotations-bbox.csv")
        target.write_text(images.getvalue(), f"{prefix}images.csv")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(labels, names, strict=True))
    target.write_text(text.getvalue(), _CLASS_LIST)
