"""CSV: a row for each box, with columns by name or, as keras-retinanet has it, without a header.

For the tables of Open Images, see `open_images`.
"""

import csv
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from d2lite.data.image_io import read_image_size
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
from d2lite.utils.errors import quoted, shortened
from d2lite.utils.file_io import read_text

HOLDS = Holds()
# Column names in lower case, without punctuation; the first one that exists is used.
_COLUMNS = {
    "image": (
        *("filename", "imagepath", "imagename", "image", "imageid", "path", "filepath"),
        *("file", "img", "imgname", "imgpath", "imagefilename"),
    ),
    "class": ("class", "label", "classname", "category", "labelname", "name", "categoryname"),
    "split": ("split", "subset", "set"),
    "box": ("bbox", "box"),
    "x0": ("xmin", "x1", "left", "bboxx1", "bboxxmin", "x0"),
    "y0": ("ymin", "y1", "top", "bboxy1", "bboxymin", "y0"),
    "x1": ("xmax", "x2", "right", "bboxx2", "bboxxmax"),
    "y1": ("ymax", "y2", "bottom", "bboxy2", "bboxymax"),
    "cx": ("xcenter", "centerx", "cx", "xc"),
    "cy": ("ycenter", "centery", "cy", "yc"),
    "x": ("x", "bboxx", "xmin", "left"),
    "y": ("y", "bboxy", "ymin", "top"),
    "w": ("bboxwidth", "boxwidth", "w", "bboxw", "width"),
    "h": ("bboxheight", "boxheight", "h", "bboxh", "height"),
}
_CORNERS, _SIZED, _CENTERED = ("x0", "y0", "x1", "y1"), ("x", "y", "w", "h"), ("cx", "cy", "w", "h")
_WITHOUT_HEADER = ["image", "x0", "y0", "x1", "y1", "class"]
_CLASS_LISTS = ("classes.csv", "class_list.csv")
_EXPECTED = (
    "an image column (such as filename), a class column, and xmin, ymin, xmax, ymax, or "
    "x, y, w, h, or bbox"
)


class _Table(NamedTuple):
    """A CSV file: the index of each column, the keys of the box columns, and the rows."""

    columns: dict[str, int]
    box: tuple[str, ...]
    rows: list[tuple[int, list[str]]]  # with their line in the file


def read_rows(path: str, limit: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and cells of each row that is not empty.

    Cells are separated by commas, semicolons or tabs.

    Args:
        limit: read at most this many lines.
    """
    if limit is None:
        text = read_text(path)
    else:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            text = "".join(line for _, line in zip(range(limit), file, strict=False))
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not valid CSV: {error}") from None


def _columns_of(header: list[str]) -> tuple[dict[str, int], tuple[str, ...]] | None:
    """Return the index of each known column, and the keys of the box; None if not such a table."""
    plain = [re.sub(r"[\W_]", "", cell.lower()) for cell in header]
    if "labelname" in plain and "imageid" in plain and "xmin" in plain:
        return None  # a table of Open Images
    found = {}
    for key, names in _COLUMNS.items():
        name = next((name for name in names if name in plain), None)
        if name is not None:
            found[key] = plain.index(name)
    for box in (_CORNERS, ("box",), _CENTERED, _SIZED):
        if "image" in found and all(key in found for key in box):
            return found, box
    return None


def _is_retinanet(row: list[str]) -> bool:
    """Return whether a row is path,x1,y1,x2,y2,class, where all but the path may be empty."""
    return len(row) == 6 and bool(row[0]) and all(_is_number(c) for c in row[1:5] if c or row[5])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv_files(folder: Folder) -> list[str]:
    found = []
    for file in folder.candidates(".csv", ".tsv"):
        first = next(read_rows(folder.path(file), limit=2), None)
        if first is not None and (_columns_of(first[1]) or _is_retinanet(first[1])):
            found.append(file)
    return found


def find_csv(folder: Folder) -> bool:
    """Return whether there is a table with columns for an image and a box."""
    return bool(_csv_files(folder))


def _read_table(path: str) -> _Table:
    rows = list(read_rows(path))
    if not rows:
        raise ValueError(f"{path}: the table is empty; expected {_EXPECTED}")
    found = _columns_of(rows[0][1])
    if found is not None:
        return _Table(*found, rows[1:])
    if not _is_retinanet(rows[0][1]):
        raise ValueError(
            f"{path}, line {rows[0][0]}: the columns are {shortened(', '.join(rows[0][1]))}; "
            f"expected {_EXPECTED}"
        )
    columns = {key: index for index, key in enumerate(_WITHOUT_HEADER)}
    return _Table(columns, _CORNERS, rows)


def read_csv(folder: Folder) -> LabeledImages:
    """Read tables of boxes; a row with only an image is an image without objects.

    Classes are in alphabetical order, or in the order of a `classes.csv` (name, number).

    Raises:
        ValueError: a column is missing, or a row is malformed; with file and line.
    """
    files = _csv_files(folder) or folder.candidates(".csv", ".tsv")
    by_split: dict[str, str] = {}
    for file in files:
        other = by_split.setdefault(split_of(file), file)
        if other != file:
            raise ValueError(
                f"{folder.root}: {other} and {file} are both tables of boxes; give the path of "
                "one, or put 'train' and 'val' into their names"
            )
    if len(by_split) > 1:
        by_split.pop(ALL, None)
    tables = {file: _read_table(folder.path(file)) for file in by_split.values()}
    source = folder.path(next(iter(tables)))
    data = LabeledImages("csv", folder.root, [], {})
    if not all("class" in table.columns for table in tables.values()):
        data.notes.append("there is no column for the class, so all get the class 'object'")
    names = {_class_of(row, t) for t in tables.values() for _, row in t.rows if _has_box(row, t)}
    listed = None  # a file like keras-retinanet's has name,number in each row
    for file in folder.files:
        if listed is None and file.lower().rpartition("/")[2] in _CLASS_LISTS:
            rows = [row for _, row in read_rows(folder.path(file))]
            if rows and all(len(row) == 2 and re.fullmatch(r"\d{1,9}", row[1]) for row in rows):
                listed = [row[0] for row in sorted(rows, key=lambda row: int(row[1]))]
    index = class_indices(names - {""}, listed, source)
    data.class_names = list(index)
    for split, file in by_split.items():
        for part, records in _read_records(folder, file, tables[file], index, split, data).items():
            data.splits.setdefault(part, []).extend(records)
    found = len(data.records()) + len({line.partition(" (")[0] for line in data.missing})
    if len(folder.images) > found:
        data.notes.append(
            f"left out {counted(len(folder.images) - found, 'image')} that no row names"
        )
    return data


def _cell(row: list[str], table: _Table, key: str) -> str:
    column = table.columns.get(key)
    return row[column] if column is not None and column < len(row) else ""


def _class_of(row: list[str], table: _Table) -> str:
    return _cell(row, table, "class") if "class" in table.columns else "object"


def _has_box(row: list[str], table: _Table) -> bool:
    cells = [_cell(row, table, key) for key in table.box]
    if "class" in table.columns:
        cells.append(_cell(row, table, "class"))
    return any(cell.lower() not in ("", "nan", "none") for cell in cells)


def _read_records(
    folder: Folder,
    file: str,
    table: _Table,
    index: dict[str, int],
    split: str,
    data: LabeledImages,
) -> dict[str, list[dict]]:
    path = folder.path(file)
    records: dict[str, dict] = {}
    split_by_image: dict[str, str] = {}
    lines: dict[str, list[int]] = {}
    boxes = []
    absent: dict[str, int] = {}
    for line, row in table.rows:
        name = _cell(row, table, "image")
        if not name:
            raise ValueError(f"{path}, line {line}: the image has no name")
        image = folder.find_image(name, file)
        if image is None:
            absent.setdefault(name, line)
            continue
        if image not in records:
            number = relative_stem(image, folder.root)
            records[image] = {"file_name": image, "image_id": number, "annotations": []}
        record = records[image]
        part = split_of(_cell(row, table, "split")) if "split" in table.columns else split
        if split_by_image.setdefault(image, part) != part:
            raise ValueError(
                f"{path}, line {line}: image {quoted(name)} is in {quoted(part)} here and in "
                f"{split_by_image[image]!r} before; an image belongs to one split"
            )
        if _has_box(row, table):
            found, values = _object(row, table, index, f"{path}, line {line}")
            record["annotations"].append(found)
            lines.setdefault(image, []).append(line)
            boxes.append((record, found, values))
    data.missing += [f"{name} ({path}, line {line})" for name, line in absent.items()]
    _set_boxes(boxes, table, path, data)
    done = finish_records(
        list(records.values()), path, lambda r, i: f"line {lines[r['file_name']][i]}"
    )
    by_part: dict[str, list[dict]] = {}
    for record in done:
        by_part.setdefault(split_by_image[record["file_name"]], []).append(record)
    return by_part


def _object(
    row: list[str], table: _Table, index: dict[str, int], where: str
) -> tuple[dict, list[float]]:
    """Return an annotation without its box, and the four numbers of the row."""
    name = _class_of(row, table)
    if not name:
        raise ValueError(f"{where}: a box without a class; name it, or leave the whole row empty")
    cells = [_cell(row, table, key) for key in table.box]
    if table.box == ("box",):
        cells = [cell for cell in re.split(r"[\s,;\[\]()]+", cells[0]) if cell]
    if len(cells) != 4 or not all(_is_number(cell) for cell in cells):
        raise ValueError(f"{where}: the box is {quoted(', '.join(cells))}; expected four numbers")
    return {"category_id": index[name]}, [float(cell) for cell in cells]


def _set_boxes(
    boxes: list[tuple[dict, dict, list[float]]], table: _Table, path: str, data: LabeledImages
) -> None:
    """Convert the boxes of a file to corners in pixels; they are shares if none is above 1."""
    shares = bool(boxes) and max(max(values) for *_, values in boxes) <= 1
    if shares:
        data.notes.append(f"{path}: no number is above 1, so boxes are shares of the image")
    for record, annotation, values in boxes:
        if "height" not in record:
            record["height"], record["width"] = read_image_size(record["file_name"])
        if shares:
            sides = (record["width"], record["height"]) * 2
            values = [value * side for value, side in zip(values, sides, strict=True)]
        a, b, c, d = values
        if table.box == _CENTERED:
            values = [a - c / 2, b - d / 2, a + c / 2, b + d / 2]
        elif table.box != _CORNERS:
            values = [a, b, a + c, b + d]
        annotation["bbox"] = values
        annotation["bbox_mode"] = BoxMode.XYXY_ABS


def write_csv(target: Destination) -> None:
    """Write a table for each split, and `images/SPLIT/`."""
    names = target.data.class_names
    for split, records in target.data.splits.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"])
        for record in records:
            path = target.place_image(record, split, "images", split)
            head = [path, record["width"], record["height"]]
            for annotation in record["annotations"]:
                box = [shown_number(value) for value in annotation["bbox"]]
                writer.writerow([*head, names[annotation["category_id"]], *box])
            if not record["annotations"]:
                writer.writerow([*head, "", "", "", "", ""])
        file = "annotations.csv" if split == ALL else f"{split}.csv"
        target.write_text(text.getvalue(), file)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([n, i] for i, n in enumerate(names))
    target.write_text(text.getvalue(), "classes.csv")
