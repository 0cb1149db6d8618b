"""COCO JSON: a file for each split, also as Roboflow exports it."""

import json
import logging
from collections import Counter
from typing import Any

from d2lite.data.catalog import Metadata
from d2lite.data.datasets.coco import coco_records
from d2lite.data.datasets.coco_export import coco_contents, coco_table
from d2lite.data.datasets.coco_json import checked_categories, read_json, section
from d2lite.data.datasets.keypoint_meta import keypoint_metadata
from d2lite.data.layouts.files import Folder, split_of
from d2lite.data.layouts.labeled import ALL, LabeledImages, finish_records
from d2lite.data.layouts.writing import Destination, Holds

logger = logging.getLogger(__name__)

HOLDS = Holds(masks="any", keypoints=True, crowds=True, difficult=True)
_KEYS = {"images", "annotations", "categories", "info", "licenses"}
ROBOFLOW_NAME = "_annotations.coco.json"


def find_coco(folder: Folder) -> bool:
    """Return whether there is a JSON file with COCO's keys, other than Roboflow's."""
    return any(not file.endswith(ROBOFLOW_NAME) for file in _coco_files(folder))


def find_roboflow(folder: Folder) -> bool:
    """Return whether there are `_annotations.coco.json` files, in folders of splits or alone."""
    return any(file.endswith(ROBOFLOW_NAME) for file in _coco_files(folder))


def _coco_files(folder: Folder) -> list[str]:
    found = []
    for file in folder.candidates(".json"):
        keys, _, of_rows = folder.json_keys(file)
        if keys & {"images", "annotations"} and (
            len(keys & _KEYS) > 1 or of_rows & {"file_name", "image_id", "category_id"}
        ):
            found.append(file)
    return found


def _files_by_split(folder: Folder) -> dict[str, str]:
    """Return the file of each split; in COCO's own folder, the files of instances."""
    by_split: dict[str, list[str]] = {}
    for file in _coco_files(folder):
        by_split.setdefault(split_of(file), []).append(file)
    if len(by_split) > 1:
        by_split.pop(ALL, None)  # next to a train.json, an all.json repeats the same images
    chosen = {}
    for split, files in by_split.items():
        for word in ("instances", "keypoints"):
            files = [f for f in files if word in f.rpartition("/")[2].lower()] or files
        if len(files) > 1:
            raise ValueError(
                f"{folder.root}: {files[0]} and {files[1]} are both COCO files"
                + (f" for {split!r}" if split != ALL else "")
                + "; give the path of one of them, or put 'train' and 'val' into their names"
            )
        chosen[split] = files[0]
    return chosen


def read_coco(folder: Folder) -> LabeledImages:
    """Read COCO files; classes are sorted by id, those of the first file first."""
    files = _files_by_split(folder)
    contents = {file: read_json(folder.path(file)) for file in files.values()}
    categories, notes = _categories(folder, contents)
    names = _names_with_numbers(categories[next(iter(files.values()))])
    for rows in categories.values():
        names += [name for name in _names_with_numbers(rows) if name not in names]
    index = {name: number for number, name in enumerate(names)}
    data = LabeledImages("coco", folder.root, [name for name, _ in names], {}, notes=notes)
    first = next(iter(categories.values()))
    if len(names) == len(first) and all(rows == first for rows in categories.values()):
        data.category_ids = [row["id"] for row in first]
    data.keypoints = keypoint_metadata([row for rows in categories.values() for row in rows])
    for split, file in files.items():
        ids = {
            row["id"]: index[name]
            for row, name in zip(
                categories[file], _names_with_numbers(categories[file]), strict=True
            )
        }
        data.splits[split] = _read_file(folder, file, contents.pop(file), ids, data.missing)
    return data


def _read_file(
    folder: Folder, file: str, content: Any, ids: dict[int, int], missing: list[str]
) -> list[dict]:
    path = folder.path(file)
    kept, absent = [], []
    for row in section(content, "images", path):
        name = row.get("file_name")
        found = folder.find_image(name, file) if isinstance(name, str) else None
        if found is None and isinstance(name, str):
            missing.append(f"{name} (image {row.get('id')} of {path})")
            absent.append(row.get("id"))
        else:
            kept.append({**row, "file_name": found} if found else row)  # reader reports the rest
    content = {**content, "images": kept}
    absent = {number for number in absent if isinstance(number, int | str)}
    rows = content.get("annotations")
    if absent and isinstance(rows, list):
        content["annotations"] = [
            row
            for row in rows
            if not (
                isinstance(row, dict)
                and isinstance(row.get("image_id"), int | str)
                and row["image_id"] in absent
            )
        ]
    records = coco_records(content, path, "", ids, ["difficult"])
    return finish_records(records, path, normalize=False)


def _categories(
    folder: Folder, contents: dict[str, Any]
) -> tuple[dict[str, list[dict]], list[str]]:
    """Return the categories of each file, without the one for the project as a whole.

    Roboflow puts it first: id 0, no objects, and its name is the "supercategory" of all others.
    """
    categories = {file: checked_categories(c, folder.path(file)) for file, c in contents.items()}
    used = Counter(
        (file, row.get("category_id"))
        for file, content in contents.items()
        for row in (
            section(content, "annotations", folder.path(file)) if "annotations" in content else ()
        )
        if isinstance(row, dict) and isinstance(row.get("category_id"), int)
    )
    dummies = {}
    for file, rows in categories.items():
        name = rows[0]["name"]
        groups_all = len(rows) > 1 and all(row.get("supercategory") == name for row in rows[1:])
        if rows[0]["id"] == 0 and groups_all and not used[file, 0]:
            dummies[file] = name
    if not dummies or len(dummies) < len(categories):
        return categories, []
    note = f"left out category {next(iter(dummies.values()))!r}, which has no objects and only "
    return {file: rows[1:] for file, rows in categories.items()}, [note + "groups the others"]


def _names_with_numbers(rows: list[dict]) -> list[tuple[str, int]]:
    """Return each name with its number of earlier uses: equal names are different classes."""
    seen: Counter[str] = Counter()
    numbered = []
    for row in rows:
        numbered.append((row["name"], seen[row["name"]]))
        seen[row["name"]] += 1
    return numbered


def write_coco(target: Destination) -> None:
    """Write `annotations/instances_SPLIT.json` and `images/SPLIT/`."""
    for split, records in target.data.splits.items():
        placed = []
        for record in records:
            path = target.place_image(record, split, "images", split)
            placed.append({**record, "file_name": path.partition("/")[2]})
        name = "instances.json" if split == ALL else f"instances_{split}.json"
        target.write_text(json.dumps(_contents(target.data, placed)), "annotations", name)


def write_roboflow(target: Destination) -> None:
    """Write a folder for each split (`train`, `valid`, `test`) with images and their JSON file."""
    for split, records in target.data.splits.items():
        sub = "valid" if split == "val" else split
        placed = []
        for record in records:
            path = target.place_image(record, split, sub)
            placed.append({**record, "file_name": path.rpartition("/")[2]})
        content = _contents(target.data, placed)
        first = min(row["id"] for row in content["categories"])
        for row in content["categories"]:
            row.update(id=row["id"] - first + 1, supercategory="objects")
        for row in content.get("annotations", ()):
            row["category_id"] += 1 - first
        content["categories"].insert(0, {"id": 0, "name": "objects", "supercategory": "none"})
        target.write_text(json.dumps(content), sub, ROBOFLOW_NAME)


def _contents(data: LabeledImages, records: list[dict]) -> dict:
    """Return the contents of a COCO file; the records have their final file names."""
    numbered = [{**record, "image_id": number} for number, record in enumerate(records, start=1)]
    ids = data.category_ids or range(1, len(data.class_names) + 1)
    metadata = Metadata(name=data.layout, thing_classes=data.class_names)
    table = coco_table(numbered, metadata, dict(enumerate(ids)))
    difficult = [bool(a.get("difficult")) for record in numbered for a in record["annotations"]]
    for row, mark in zip(table["annotations"], difficult, strict=True):
        if mark:
            row["difficult"] = 1
    points = data.keypoints.get("keypoint_names")
    if points:
        place = {name: number for number, name in enumerate(points, start=1)}
        rules = data.keypoints.get("keypoint_connection_rules", ())
        for row in table["categories"]:
            row["keypoints"] = list(points)
            row["skeleton"] = [[place[a], place[b]] for a, b, _ in rules]
    content = coco_contents(table, data.layout)
    content.setdefault("annotations", [])
    return content
