"""LabelMe: a JSON file for each image, with its shapes."""

import base64
import binascii
import io
import json
import math
from typing import Any

import numpy as np
from PIL import Image

from d2lite.data.datasets.coco_json import read_json
from d2lite.data.layouts.files import Folder, split_of
from d2lite.data.layouts.labeled import (
    LabeledImages,
    class_indices,
    counted,
    finish_records,
    relative_stem,
)
from d2lite.data.layouts.outlines import box_of_polygons, ellipse_polygon, mask_polygons
from d2lite.data.layouts.writing import Destination, Holds
from d2lite.structures import BoxMode
from d2lite.utils.errors import quoted, shortened

HOLDS = Holds(masks="parts", difficult=True)
CLASS_LIST = "labels.txt"
_NOT_OBJECTS = ("point", "points", "line", "linestrip")
_NOT_CLASSES = ("__ignore__", "_background_")  # what LabelMe's own examples list first


def find_labelme(folder: Folder) -> bool:
    """Return whether there are JSON files with LabelMe's keys."""
    return bool(_labelme_files(folder, few=True))


def _labelme_files(folder: Folder, few: bool = False) -> list[str]:
    """Return the JSON files with "shapes" and "imagePath"; `few`: only the first one."""
    found = []
    for file in folder.candidates(".json"):
        keys, _, of_rows = folder.json_keys(file)
        if "imageData" in keys or ("shapes" in keys and ("imagePath" in keys or of_rows)):
            found.append(file)
            if few:
                break
    return found


def read_labelme(folder: Folder) -> LabeledImages:
    """Read LabelMe's shapes: polygons, rectangles, circles and masks.

    Polygons of one label and group_id are parts of one object. Points and lines are left out.
    Classes are in alphabetical order, or in the order of a `labels.txt`.

    Raises:
        ValueError: a shape is malformed; with file and shape.
    """
    files = _labelme_files(folder)
    contents = {file: read_json(folder.path(file)) for file in files}
    shapes = {file: _shapes(content, folder.path(file)) for file, content in contents.items()}
    lists = [f for f in folder.files if f.rpartition("/")[2] == CLASS_LIST]
    listed = folder.lines(lists[0]) if lists and folder.only is None else None
    used = {shape["label"] for rows in shapes.values() for shape in rows}
    used -= set(_NOT_CLASSES)
    if listed is not None:
        listed = [name for name in listed if name not in _NOT_CLASSES]
        listed = listed if used <= set(listed) else None
    index = class_indices(used, listed, folder.root)
    data = LabeledImages("labelme", folder.root, list(index), {})
    records: dict[str, list[dict]] = {}
    sources: dict[str, str] = {}
    left_out = 0
    for file, content in contents.items():
        image = _find_image(folder, file, content)
        if image is None:
            hint = ""
            if content.get("imageData"):
                hint = "; its pixels are in the JSON file, `labelme_export_json` takes them out"
            data.missing.append(f"{content.get('imagePath')} ({folder.path(file)}{hint})")
            continue
        sources[image] = folder.path(file)
        record: dict[str, Any] = {
            "file_name": image,
            "image_id": relative_stem(image, folder.root),
            "annotations": [],
        }
        if content.get("imageHeight") is not None and content.get("imageWidth") is not None:
            record.update(height=content["imageHeight"], width=content["imageWidth"])
        kept = [shape for shape in shapes[file] if shape["label"] in index]
        record["annotations"], skipped = _objects(kept, index, folder.path(file))
        left_out += skipped
        records.setdefault(split_of(file.rpartition("/")[0]), []).append(record)
    for split, some in records.items():
        data.splits[split] = finish_records(
            some, folder.root, lambda r, i: f"object number {i} of {sources[r['file_name']]}"
        )
    if left_out:
        data.notes.append(f"left out {counted(left_out, 'shape')} without area (points, lines)")
    found = len(data.records()) + len(data.missing)
    if len(folder.images) > found:
        data.notes.append(
            f"left out {counted(len(folder.images) - found, 'image')} without a JSON file"
        )
    return data


def _find_image(folder: Folder, file: str, content: dict) -> str | None:
    """Return the image that the file names, or else the image with the same name."""
    name = content.get("imagePath")
    found = folder.find_image(name, file) if isinstance(name, str) and name else None
    return found or folder.find_image(file.rpartition("/")[2][: -len(".json")], file)


def _shapes(content: Any, path: str) -> list[dict]:
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise ValueError(f"{path}: 'shapes' must be a list; save the file again with LabelMe")
    for number, shape in enumerate(shapes):
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str) or not label:
            raise ValueError(f"{path}: shape number {number} has no 'label'; name its class")
    return shapes


def _objects(shapes: list[dict], index: dict[str, int], path: str) -> tuple[list[dict], int]:
    """Return the annotations, and the number of shapes left out."""
    objects: dict[Any, dict] = {}
    left_out = 0
    for number, shape in enumerate(shapes):
        where = f"{path}: shape number {number} ({shortened(str(shape['label']))})"
        polygon, is_box = _outline(shape, where)
        if polygon is None:
            left_out += 1
            continue
        group = shape.get("group_id")
        key = (shape["label"], str(group)) if group is not None and not is_box else number
        flags = shape.get("flags")
        found = objects.setdefault(key, {"category_id": index[shape["label"]], "polygons": []})
        found["polygons"] += polygon
        if is_box:
            found["is_box"] = True
        if isinstance(flags, dict) and flags.get("difficult"):
            found["difficult"] = 1
    annotations = []
    for found in objects.values():
        polygons = found.pop("polygons")
        found["bbox"], found["bbox_mode"] = box_of_polygons(polygons), BoxMode.XYXY_ABS
        if not found.pop("is_box", False):
            found["segmentation"] = polygons
        annotations.append(found)
    return annotations, left_out


def _outline(shape: dict, where: str) -> tuple[list[list[float]] | None, bool]:
    """Return the polygons of a shape (None if not an object), and whether it is just a box."""
    kind = shape.get("shape_type") or "polygon"
    if kind in _NOT_OBJECTS:
        return None, False
    points = shape.get("points")
    if (
        not isinstance(points, list)
        or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in points)
        or not all(isinstance(v, (int, float)) and math.isfinite(v) for p in points for v in p)
    ):
        raise ValueError(f"{where} has points {quoted(points)}; expected pairs of numbers")
    flat = [float(value) for point in points for value in point]
    if kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        return [ellipse_polygon((flat[0], flat[1]), (radius, radius))], False
    if kind == "rectangle" and len(points) in (2, 4):
        x0, y0, x1, y1 = box_of_polygons([flat])
        return [[x0, y0, x1, y0, x1, y1, x0, y1]], True
    if kind == "mask" and len(points) == 2:
        try:  # a base64 PNG that starts at the first corner of the box
            png = base64.b64decode(shape.get("mask") or "", validate=True)
            pixels = np.asarray(Image.open(io.BytesIO(png), formats=["PNG"])) > 0
        except (binascii.Error, OSError, ValueError, TypeError) as error:
            raise ValueError(f"{where}: its 'mask' does not decode: {error}") from None
        return mask_polygons(pixels, (flat[0], flat[1])) or None, False
    if kind in ("polygon", "rotation"):
        return ([flat], False) if len(points) >= 3 else (None, False)
    raise ValueError(
        f"{where} is a {quoted(kind)} of {len(points)} points; expected a polygon, a rectangle or "
        "circle of 2 points, or a mask"
    )


def write_labelme(target: Destination) -> None:
    """Write each JSON file beside its image, in a folder for each split, and `labels.txt`."""
    names = target.data.class_names
    for split, records in target.data.splits.items():
        for record in records:
            path = target.place_image(record, split, split)
            shapes = []
            for number, annotation in enumerate(record["annotations"]):
                shapes += _shapes_of(annotation, names[annotation["category_id"]], number)
            content = {
                "version": "5.0.1",
                "flags": {},
                "shapes": shapes,
                "imagePath": path.rpartition("/")[2],
                "imageData": None,
                "imageHeight": record["height"],
                "imageWidth": record["width"],
            }
            text = json.dumps(content, ensure_ascii=False, indent=1)
            target.write_text(text, f"{path.rpartition('.')[0]}.json")
    target.write_text("".join(f"{name}\n" for name in names), CLASS_LIST)


def _shapes_of(annotation: dict, label: str, number: int) -> list[dict]:
    flags = {"difficult": True} if annotation.get("difficult") else {}
    if "segmentation" not in annotation:
        x0, y0, x1, y1 = (round(v, 3) for v in annotation["bbox"])
        outlines, kind = [[[x0, y0], [x1, y1]]], "rectangle"
    else:
        outlines, kind = [], "polygon"
        for polygon in annotation["segmentation"]:
            rounded = [round(v, 3) for v in polygon]
            outlines.append([list(p) for p in zip(rounded[::2], rounded[1::2], strict=True)])
    group = number if len(outlines) > 1 else None
    return [
        {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": flags}
        for points in outlines
    ]
