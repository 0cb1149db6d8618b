"""CVAT for images 1.1: one XML file with the shapes of all images."""

import math
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np

from d2lite.data.datasets.pascal_voc import parse_xml
from d2lite.data.layouts.files import Folder, split_of
from d2lite.data.layouts.labeled import (
    ALL,
    LabeledImages,
    class_indices,
    counted,
    finish_records,
    relative_stem,
)
from d2lite.data.layouts.outlines import ellipse_polygon, mask_polygons
from d2lite.data.layouts.writing import Destination, Holds, shown_number
from d2lite.structures import BoxMode
from d2lite.utils.errors import quoted

HOLDS = Holds(masks="parts", difficult=True)
_ROOT = re.compile(rb"<annotations[\s>]")
_SHAPES = ("box", "polygon", "mask", "ellipse")
_LEFT_OUT = ("points", "polyline", "skeleton", "cuboid")


def find_cvat(folder: Folder) -> bool:
    """Return whether there is an XML file whose root is <annotations>."""
    return bool(_cvat_files(folder))


def _cvat_files(folder: Folder) -> list[str]:
    found = []
    for file in folder.candidates(".xml"):
        with open(folder.path(file), "rb") as opened:
            if _ROOT.search(opened.read(4096)):
                found.append(file)
    return found


def read_cvat(folder: Folder) -> LabeledImages:
    """Read CVAT's boxes, polygons, masks and ellipses; points, lines and skeletons are left out.

    Polygons of one label and group are parts of one object; rotated boxes become polygons. The
    subsets of a project are the splits; without them, the paths name the split.

    Raises:
        ValueError: the file is for a video, or a shape is malformed; with file, image and shape.
    """
    roots = {file: parse_xml(folder.path(file)) for file in _cvat_files(folder)}
    used, listed = set(), []
    for file, root in roots.items():
        if root.find("image") is None and root.find("track") is not None:
            raise ValueError(
                f"{folder.path(file)}: in CVAT's format for video; export it as 'CVAT for images "
                "1.1' or as COCO"
            )
        for item in root.iterfind("meta//labels/label"):
            name = (item.findtext("name") or "").strip()
            if name and item.find("parent") is None and name not in listed:
                listed.append(name)
        for image in root.iterfind("image"):
            used |= {
                _label(shape, _where(folder, file, image, i))
                for i, shape in enumerate(image)
                if shape.tag in _SHAPES
            }
    index = class_indices(used, listed if used <= set(listed) and listed else None, folder.root)
    data = LabeledImages("cvat", folder.root, list(index), {})
    left_out = 0
    records: dict[str, list[dict]] = {}
    for file, root in roots.items():
        for image in root.iterfind("image"):
            name = image.get("name") or ""
            subset = image.get("subset") or ""
            path = folder.find_image(f"{subset}/{name}" if subset else name, f"{subset}/{file}")
            if path is None:
                data.missing.append(f"{name} ({folder.path(file)})")
                continue
            split = split_of(subset) if subset else split_of(f"{file.rpartition('/')[0]}/{name}")
            record: dict[str, Any] = {
                "file_name": path,
                "image_id": relative_stem(path, folder.root),
                "annotations": [],
            }
            where = _where(folder, file, image)
            if image.get("width") and image.get("height"):
                height, width = _numbers(image, ("height", "width"), where)
                record.update(height=height, width=width)
            left_out += sum(shape.tag in _LEFT_OUT for shape in image)
            record["annotations"] = _objects(image, index, where)
            records.setdefault(split, []).append(record)
    for split, some in records.items():
        data.splits[split] = finish_records(
            some, folder.root, lambda r, i: f"object number {i} of image {r['file_name']}"
        )
    if left_out:
        data.notes.append(
            f"left out {counted(left_out, 'shape')} without area (points, lines, skeletons)"
        )
    return data


def _where(folder: Folder, file: str, image: ET.Element, number: int | None = None) -> str:
    shape = "" if number is None else f", shape number {number}"
    return f"{folder.path(file)}: image {image.get('name')!r}{shape}"


def _label(shape: ET.Element, where: str) -> str:
    label = (shape.get("label") or "").strip()
    if not label:
        raise ValueError(f"{where}: a <{shape.tag}> has no 'label'; add it")
    return label


def _numbers(element: ET.Element, keys: tuple[str, ...], where: str) -> list[float]:
    values = []
    for key in keys:
        try:
            values.append(float(element.get(key, "")))
        except ValueError:
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            raise ValueError(
                f"{where}: <{element.tag}> has {key} {element.get(key)!r}; expected a number"
            )
    return values


def _objects(image: ET.Element, index: dict[str, int], where: str) -> list[dict]:
    objects: dict[Any, dict] = {}
    for number, shape in enumerate(image):
        if shape.tag not in _SHAPES:
            continue
        here = f"{where}, shape number {number}"
        label = _label(shape, here)
        found: dict[str, Any] = {"category_id": index[label]}
        if any(
            a.get("name") == "difficult" and (a.text or "").strip().lower() in ("1", "true")
            for a in shape.iterfind("attribute")
        ):
            found["difficult"] = 1
        angle = (
            math.radians(_numbers(shape, ("rotation",), here)[0]) if shape.get("rotation") else 0
        )
        if shape.tag == "box" and not angle:
            found["bbox"] = _numbers(shape, ("xtl", "ytl", "xbr", "ybr"), here)
            found["bbox_mode"] = BoxMode.XYXY_ABS
            objects[number] = found
            continue
        polygons = _polygons(shape, angle, here)
        if not polygons:
            continue
        group = shape.get("group_id")
        key = (label, group) if group not in (None, "", "0") else number
        if key in objects:
            objects[key]["segmentation"] += polygons
        else:
            objects[key] = {**found, "segmentation": polygons}
    return list(objects.values())


def _polygons(shape: ET.Element, angle: float, where: str) -> list[list[float]]:
    if shape.tag == "box":
        x0, y0, x1, y1 = _numbers(shape, ("xtl", "ytl", "xbr", "ybr"), where)
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) - middle
        return [(corners @ turn + middle).ravel().tolist()]
    if shape.tag == "ellipse":
        cx, cy, rx, ry = _numbers(shape, ("cx", "cy", "rx", "ry"), where)
        return [ellipse_polygon((cx, cy), (rx, ry), angle)]
    if shape.tag == "mask":
        # Alternating runs of 0 and 1, row by row within the mask's own box.
        left, top, w, h = map(int, _numbers(shape, ("left", "top", "width", "height"), where))
        try:
            runs = [int(run) for run in shape.get("rle", "").split(",")]
        except ValueError:
            runs = [-1]
        if min(runs) < 0 or min(w, h) < 1 or sum(runs) != w * h:
            raise ValueError(
                f"{where}: the runs of a mask do not add up to its {w} x {h} pixels; export it "
                "again"
            )
        pixels = np.repeat(np.arange(len(runs)) % 2, runs).reshape(h, w)
        return mask_polygons(pixels, (left, top))
    text = shape.get("points", "")
    try:
        polygon = [float(v) for pair in text.split(";") for v in pair.split(",")]
    except ValueError:
        polygon = [math.nan]
    if len(polygon) % 2 or not all(map(math.isfinite, polygon)):
        raise ValueError(f"{where}: the points are {quoted(text)}; expected 'x,y;x,y;...'")
    return [polygon] if len(polygon) >= 6 else []


def write_cvat(target: Destination) -> None:
    """Write `annotations.xml` and `images/SPLIT/`."""
    names = target.data.class_names
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "job"), "labels")
    for name in names:
        ET.SubElement(ET.SubElement(labels, "label"), "name").text = name
    number = 0
    for split, records in target.data.splits.items():
        for record in records:
            path = target.place_image(record, split, "images", split)
            image = ET.SubElement(root, "image", id=str(number), name=path.rpartition("/")[2])
            number += 1
            if split != ALL:
                image.set("subset", split)
            image.set("width", str(record["width"]))
            image.set("height", str(record["height"]))
            for group, annotation in enumerate(record["annotations"], start=1):
                _add_shapes(image, annotation, names[annotation["category_id"]], group)
    ET.indent(root)
    target.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n",
        "annotations.xml",
    )


def _add_shapes(image: ET.Element, annotation: dict, label: str, group: int) -> None:
    if "segmentation" not in annotation:
        box = ET.SubElement(image, "box", label=label, source="manual", occluded="0")
        for key, value in zip(("xtl", "ytl", "xbr", "ybr"), annotation["bbox"], strict=True):
            box.set(key, shown_number(value))
        shapes = [box]
    else:
        shapes = []
        for polygon in annotation["segmentation"]:
            numbers = [shown_number(value) for value in polygon]
            points = ";".join(map(",".join, zip(numbers[::2], numbers[1::2], strict=True)))
            shape = ET.SubElement(image, "polygon", label=label, source="manual", occluded="0")
            shape.set("points", points)
            if len(annotation["segmentation"]) > 1:
                shape.set("group_id", str(group))
            shapes.append(shape)
    for shape in shapes:
        shape.set("z_order", "0")
        if annotation.get("difficult"):
            ET.SubElement(shape, "attribute", name="difficult").text = "true"
