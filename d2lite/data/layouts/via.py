"""VGG Image Annotator (VIA 1 and 2): a JSON file with the regions of each image beside it."""

import json
import os
from typing import Any

from d2lite.data.datasets.coco_json import read_json
from d2lite.data.layouts.files import Folder, split_of
from d2lite.data.layouts.labeled import (
    LabeledImages,
    class_indices,
    counted,
    finish_records,
    relative_stem,
)
from d2lite.data.layouts.outlines import ellipse_polygon
from d2lite.data.layouts.writing import Destination, Holds
from d2lite.structures import BoxMode
from d2lite.utils.errors import quoted, shortened

HOLDS = Holds(masks="parts")
# The attribute that names the class, if a region has one of these.
_CLASS_ATTRIBUTES = ("class", "label", "name", "type", "category", "object", "class_name")
_GROUP = "group"
FILE_NAME = "via_region_data.json"


def find_via(folder: Folder) -> bool:
    """Return whether there is a JSON file with VIA's keys."""
    return bool(_via_files(folder))


def _via_files(folder: Folder) -> list[str]:
    found = []
    for file in folder.candidates(".json"):
        top, inner, _ = folder.json_keys(file)
        is_third = {"project", "config", "attribute", "file", "metadata"} <= top
        if is_third or "_via_img_metadata" in top or {"filename", "regions"} <= inner:
            found.append(file)
    return found


def read_via(folder: Folder) -> LabeledImages:
    """Read VIA's regions: rectangles, polygons, circles and ellipses; points are left out.

    The class is the attribute called class, label, name, type or similar, or the only attribute;
    regions without attributes get the class "object".

    Raises:
        ValueError: a region is malformed, or it is not clear which attribute is the class; with
            file, image and region.
    """
    regions: dict[str, list[tuple[dict, str, list]]] = {}  # by file: entry, description, regions
    listed: list[str] | None = []
    for file in _via_files(folder):
        regions[file], options = _read_file(folder.path(file))
        listed = (
            None if options is None or listed is None else list(dict.fromkeys(listed + options))
        )
    data = LabeledImages("via", folder.root, [], {})
    attribute = _class_attribute(regions, folder.root)
    if attribute is None:
        data.notes.append("regions have no attribute for the class, so all get 'object'")
    named = {
        file: [[_class_of(r, attribute, where) for r in rows] for _, where, rows in entries]
        for file, entries in regions.items()
    }
    used = {name for lists in named.values() for names in lists for name in names}
    if listed is not None and not used <= set(listed):
        listed = None
    index = class_indices(used, listed, folder.root)
    data.class_names = list(index)
    points = 0
    for file, entries in regions.items():
        records = []
        for (entry, where, rows), names in zip(entries, named[file], strict=True):
            image = folder.find_image(entry["filename"], file)
            if image is None:
                data.missing.append(f"{entry['filename']} ({folder.path(file)})")
                continue
            objects: dict[Any, dict] = {}
            for number, (row, name) in enumerate(zip(rows, names, strict=True)):
                found = _shape(row.get("shape_attributes"), f"{where}, region number {number}")
                if found is None:
                    points += 1
                    continue
                group = (row.get("region_attributes") or {}).get(_GROUP)
                key = (name, str(group)) if group and "segmentation" in found else number
                if key in objects:
                    objects[key]["segmentation"] += found["segmentation"]
                else:
                    objects[key] = {"category_id": index[name], **found}
            records.append(
                {
                    "file_name": image,
                    "image_id": relative_stem(image, folder.root),
                    "annotations": list(objects.values()),
                }
            )
        done = finish_records(records, folder.path(file))
        data.splits.setdefault(split_of(file), []).extend(done)
    if points:
        data.notes.append(f"left out {counted(points, 'region')} without area (points, open lines)")
    return data


def _read_file(path: str) -> tuple[list[tuple[dict, str, list[dict]]], list[str] | None]:
    """Read the images of a file, and the classes in the order of the project's options.

    Returns:
        the entry of each image with its description for messages and its regions, and the classes;
        None instead of the classes if the file does not list them.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, found {quoted(content)}")
    if "_via_img_metadata" not in content and "project" in content:
        raise ValueError(f"{path}: a project of VIA 3; export its annotations as COCO JSON there")
    entries = content.get("_via_img_metadata", content)
    if not isinstance(entries, dict):
        raise ValueError(f"{path}: '_via_img_metadata' must be an object with an entry per image")
    images = []
    for entry in entries.values():
        if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
            raise ValueError(
                f"{path}: an entry {quoted(entry)} has no 'filename'; export the annotations again"
            )
        where = f"{path}: image {quoted(entry['filename'])}"
        rows = entry.get("regions") or []
        rows = list(rows.values()) if isinstance(rows, dict) else rows  # VIA 1 has a dict
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{where}: 'regions' must be a list of regions")
        images.append((entry, where, rows))
    attributes = content.get("_via_attributes")
    by_name = attributes.get("region") if isinstance(attributes, dict) else None
    for name in _CLASS_ATTRIBUTES if isinstance(by_name, dict) else ():
        settings = by_name.get(name)
        if isinstance(settings, dict) and isinstance(settings.get("options"), dict):
            return images, list(settings["options"])
    return images, None


def _class_attribute(regions: dict[str, list], root: str) -> str | None:
    found: set[str] = set()
    for entries in regions.values():
        for _, _, rows in entries:
            for row in rows:
                attributes = row.get("region_attributes")
                found.update(attributes if isinstance(attributes, dict) else ())
    for name in _CLASS_ATTRIBUTES:
        if name in found:
            return name
    found.discard(_GROUP)
    if len(found) > 1:
        raise ValueError(
            f"{root}: regions have the attributes {shortened(', '.join(sorted(found)))}; call the "
            "one that is the class 'class'"
        )
    return next(iter(found), None)


def _class_of(region: dict, attribute: str | None, where: str) -> str:
    if attribute is None:
        return "object"
    attributes = region.get("region_attributes")
    value = attributes.get(attribute) if isinstance(attributes, dict) else None
    if isinstance(value, dict):  # a checkbox
        chosen = [name for name, on in value.items() if on]
        value = chosen[0] if len(chosen) == 1 else None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{where}: a region has no class (attribute {attribute!r} is "
            f"{quoted(attributes)}); set it, or remove the region"
        )
    return value.strip()


def _shape(shape: Any, where: str) -> dict | None:
    """Return the box or outline of a region; None for points and lines."""
    kind = shape.get("name") if isinstance(shape, dict) else None

    def numbers(*keys: str) -> list[float]:
        values = [shape.get(key) for key in keys]
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            raise ValueError(f"{where}: a {kind} has {keys} {quoted(values)}; expected numbers")
        return [float(value) for value in values]

    if kind == "rect":
        x, y, width, height = numbers("x", "y", "width", "height")
        return {"bbox": [x, y, x + width, y + height], "bbox_mode": BoxMode.XYXY_ABS}
    if kind in ("polygon", "polyline"):
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise ValueError(f"{where}: all_points_x and all_points_y must be lists of one length")
        if len(xs) < 3:
            return None
        polygon = [value for pair in zip(xs, ys, strict=True) for value in pair]
        if not all(isinstance(v, (int, float)) for v in polygon):
            raise ValueError(f"{where}: a polygon has points that are not numbers")
    elif kind == "circle":
        x, y, radius = numbers("cx", "cy", "r")
        polygon = ellipse_polygon((x, y), (radius, radius))
    elif kind == "ellipse":
        x, y, rx, ry = numbers("cx", "cy", "rx", "ry")
        theta = shape.get("theta", 0)
        polygon = ellipse_polygon((x, y), (rx, ry), theta if isinstance(theta, float) else 0.0)
    elif kind == "point":
        return None
    else:
        raise ValueError(
            f"{where}: the shape is {quoted(kind)}; expected rect, polygon, circle, ellipse or "
            "point"
        )
    return {"segmentation": [polygon]}


def write_via(target: Destination) -> None:
    """Write a project file for each split, beside its images."""
    names = target.data.class_names
    for split, records in target.data.splits.items():
        entries = {}
        for record in records:
            path = target.place_image(record, split, split)
            file = path.rpartition("/")[2]
            size = os.path.getsize(os.path.join(target.root, path))
            regions = []
            for number, annotation in enumerate(record["annotations"]):
                shapes = _shapes_of(annotation)
                group = {_GROUP: str(number)} if len(shapes) > 1 else {}
                attributes = {"class": names[annotation["category_id"]], **group}
                regions += [
                    {"shape_attributes": s, "region_attributes": attributes} for s in shapes
                ]
            entries[f"{file}{size}"] = {
                "filename": file,
                "size": size,
                "regions": regions,
                "file_attributes": {},
            }
        options = {"type": "dropdown", "options": dict.fromkeys(names, "")}
        project = {
            "_via_settings": {"project": {"name": split}},
            "_via_img_metadata": entries,
            "_via_attributes": {"region": {"class": options}, "file": {}},
            "_via_data_format_version": "2.0.10",
            "_via_image_id_list": list(entries),
        }
        target.write_text(json.dumps(project, ensure_ascii=False), split, FILE_NAME)


def _shapes_of(annotation: dict) -> list[dict]:
    if "segmentation" in annotation:
        return [
            {
                "name": "polygon",
                "all_points_x": [round(v, 3) for v in polygon[::2]],
                "all_points_y": [round(v, 3) for v in polygon[1::2]],
            }
            for polygon in annotation["segmentation"]
        ]
    x0, y0, x1, y1 = annotation["bbox"]
    sides = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
    return [{"name": "rect", **{key: round(value, 3) for key, value in sides.items()}}]
