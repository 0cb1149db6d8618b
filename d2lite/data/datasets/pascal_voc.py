"""Pascal VOC: one XML file per image, lists of images per split."""

import logging
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from functools import partial

from d2lite.data.annotations import MAX_PIXELS
from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.ground_truth import normalize_dicts
from d2lite.structures import BoxMode
from d2lite.utils.errors import quoted
from d2lite.utils.file_io import PathManager, read_text
from d2lite.utils.registry import did_you_mean

logger = logging.getLogger(__name__)

# Alphabetical, as the class order of released models.
CLASS_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)


def load_voc_instances(dirname: str, split: str, class_names: Sequence[str]) -> list[dict]:
    """Load a split of a VOC folder as dataset dicts, in the order of the split's list.

    VOC counts pixels from 1 and includes the last one; 1 is taken from xmin and ymin, so that boxes
    are in continuous coordinates. Difficult objects are kept, with "difficult" 1, for VOC's metric.
    Boxes without area (xmax <= xmin or ymax <= ymin) are dropped and counted in one warning.

    Args:
        dirname: folder with "Annotations", "ImageSets" and "JPEGImages".
        split: a list in "ImageSets/Main", such as "train", "test", "val" or "trainval".
        class_names: the classes in order; `category_id` counts them from 0.
    Raises:
        FileNotFoundError: a folder, a list, an XML file or an image is missing.
        ValueError: an XML file is malformed, has no size, or names an unknown class.
    """
    image_ids = read_voc_split(dirname, split)
    annotation_dir = _folder(dirname, "Annotations")
    # By name without extension; if there are several files, the last of these extensions wins.
    order = (".tif", ".tiff", ".webp", ".bmp", ".png", ".jpeg", ".jpg")
    folder = _folder(dirname, "JPEGImages")
    names = [(os.path.splitext(name), name) for name in PathManager.ls(folder)]
    names = [(stem, ext.lower(), name) for (stem, ext), name in names if ext.lower() in order]
    names.sort(key=lambda found: order.index(found[1]))
    images = {stem: os.path.join(folder, name) for stem, _, name in names}
    missing = [i for i in image_ids if i not in images]
    if missing:
        raise FileNotFoundError(
            f"{os.path.join(dirname, 'JPEGImages')}: no image called {missing[0]!r} "
            f"({len(missing)} of the {len(image_ids)} images of split {split!r} are missing)"
        )
    files = [(i, images[i], os.path.join(annotation_dir, f"{i}.xml")) for i in image_ids]
    return voc_records(files, class_names, f"{dirname}, split {split!r}")


def voc_records(
    files: Iterable[tuple[str, str, str]],
    class_names: Sequence[str],
    source: str,
    *,
    needs_size: bool = True,
    first_pixel: int = 1,
) -> list[dict]:
    """Return the dataset dicts of images that have an XML file each.

    Args:
        files: image id, path of the image, path of the XML file.
        class_names: the classes in order.
        source: for messages.
        needs_size: if False, a dict has no "height" and "width" if the file has no <size>.
        first_pixel: what xmin and ymin count from: 1 as in VOC, 0 as some programs write them.
    Raises:
        FileNotFoundError, ValueError: as `load_voc_instances`.
    """
    index = {name: i for i, name in enumerate(class_names)}
    records, without_area = [], []
    for image_id, image, xml_file in files:
        size, objects = read_voc_objects(xml_file, needs_size)
        kept = []
        for found in objects:
            x0, y0, x1, y1 = found["bbox"]
            if x1 > x0 and y1 > y0:
                kept.append(found)
        records.append(
            {
                "file_name": image,
                "image_id": image_id,
                **({"height": size[0], "width": size[1]} if size[0] else {}),
                "annotations": [_annotation(obj, index, xml_file, first_pixel) for obj in kept],
            }
        )
        without_area += [xml_file] * (len(objects) - len(kept))
    if without_area:
        logger.warning(
            "%s: dropped %s boxes without area, the first in %s",
            source,
            len(without_area),
            without_area[0],
        )
    return normalize_dicts(
        records, source, lambda record, i: f"object number {i} of {record['image_id']}.xml"
    )


def read_voc_split(dirname: str, split: str) -> list[str]:
    """Return the names (without extension) of the images of a split.

    Raises:
        FileNotFoundError: the folder or list does not exist; the message names the existing lists.
        ValueError: the list is empty or has a name twice.
    """
    folder = _folder(dirname, "ImageSets", "Main")
    list_file = os.path.join(folder, f"{split}.txt")
    if not PathManager.isfile(list_file):
        found = sorted(n[:-4] for n in PathManager.ls(folder) if n.endswith(".txt"))
        raise FileNotFoundError(
            f"{list_file}: there is no split {split!r}.{did_you_mean(split, found)} "
            f"Splits there: {', '.join(found) or 'none'}"
        )
    image_ids = read_image_list(list_file)
    if not image_ids or len(set(image_ids)) < len(image_ids):
        problem = "has an image twice" if image_ids else "is empty"
        raise ValueError(f"{list_file}: the list {problem}")
    return image_ids


def read_image_list(list_file: str) -> list[str]:
    """Return the names of the images in a list with one per line; they may contain spaces.

    Lists of a class have a second column, which tells whether the image has an object of the class;
    it is ignored.
    """
    names = [line.strip() for line in read_text(list_file).split("\n") if line.strip()]
    columns = [name.rsplit(maxsplit=1) for name in names]
    if all(len(column) == 2 and column[1] in ("-1", "0", "1") for column in columns):
        return [name for name, _ in columns]
    return names


def read_voc_class_names(dirname: str) -> list[str]:
    """Return all classes that occur in a VOC folder, sorted; of every split, so that splits agree.

    Raises:
        FileNotFoundError, ValueError: as `load_voc_instances`; or there is no object at all.
    """
    folder = _folder(dirname, "Annotations")
    names: set[str] = set()
    for file_name in sorted(PathManager.ls(folder)):
        if file_name.endswith(".xml"):
            xml_file = os.path.join(folder, file_name)
            for item in parse_xml(xml_file).iterfind("object"):
                names.add(_text(item, "name", xml_file))
    if not names:
        raise ValueError(f"{folder}: no XML file there has an object, so there are no classes")
    return sorted(names)


def _folder(dirname: str, *parts: str) -> str:
    folder = os.path.join(PathManager.get_local_path(dirname), *parts)
    if not PathManager.isdir(folder):
        raise FileNotFoundError(
            f"{folder}: folder not found; a VOC dataset has Annotations/, "
            "ImageSets/Main/ and JPEGImages/"
        )
    return folder


def parse_xml(xml_file: str) -> ET.Element:
    """Return the root of an XML file.

    Raises:
        FileNotFoundError, ValueError: the file does not exist, or is not XML.
    """
    if not PathManager.isfile(xml_file):
        raise FileNotFoundError(f"{xml_file}: annotation file not found")
    try:
        with PathManager.open(xml_file, "rb") as f:
            return ET.parse(f).getroot()
    except (ET.ParseError, LookupError, ValueError) as e:  # the last two: an encoding like GBK
        raise ValueError(f"{xml_file}: not valid XML ({e})") from None


def read_voc_objects(xml_file: str, needs_size: bool = True) -> tuple[tuple[int, int], list[dict]]:
    """Read one annotation file: the image's (height, width), and its objects as the file has them.

    Args:
        needs_size: if False, the size is (0, 0) if the file has no <size>.
    Returns:
        the size, and dicts with "name", "pose", "truncated", "difficult" and "bbox" (xmin, ymin,
        xmax, ymax, which count pixels from 1).
    Raises:
        FileNotFoundError, ValueError: the file does not exist, is not XML, or lacks an element.
    """
    root = parse_xml(xml_file)
    if root.find("size") is None and not needs_size:
        return (0, 0), [_read_object(item, xml_file) for item in root.iterfind("object")]
    if root.find("size") is None:
        raise ValueError(
            f"{xml_file}: has no <size>; expected <size><width>W</width><height>H</height></size>"
        )
    height = int(_number(root, "size/height", xml_file))
    width = int(_number(root, "size/width", xml_file))
    if height <= 0 or width <= 0 or height * width > MAX_PIXELS:
        raise ValueError(f"{xml_file}: <size> is {width} x {height}; expected the image's size")
    return (height, width), [_read_object(item, xml_file) for item in root.iterfind("object")]


def read_voc_file_name(xml_file: str) -> str:
    """Return the name of the image in its annotation file; "" if it has none.

    Raises:
        FileNotFoundError, ValueError: the file does not exist, or is not XML.
    """
    return (parse_xml(xml_file).findtext("filename") or "").strip()


def _read_object(item: ET.Element, xml_file: str) -> dict:
    sides = ("xmin", "ymin", "xmax", "ymax")
    return {
        "name": _text(item, "name", xml_file),
        "pose": item.findtext("pose", ""),
        # Some programs write a word for unknown.
        "truncated": int(item.findtext("truncated", "").strip() == "1"),
        "difficult": int(_number(item, "difficult", xml_file, default="0")),
        "bbox": [_number(item, f"bndbox/{side}", xml_file) for side in sides],
    }


def _text(element: ET.Element, path: str, xml_file: str, default: str = "") -> str:
    text = (element.findtext(path) or "").strip() or default
    if not text:
        raise ValueError(f"{xml_file}: an <{element.tag}> has no {path!r}")
    return text


def _number(element: ET.Element, path: str, xml_file: str, default: str = "") -> float:
    text = _text(element, path, xml_file, default)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):  # also false for nan
        raise ValueError(f"{xml_file}: {path!r} is {quoted(text)}; expected a number")
    return number


def _annotation(obj: dict, index: dict[str, int], xml_file: str, first_pixel: int) -> dict:
    """Return the annotation of a dataset dict."""
    if obj["name"] not in index:
        raise ValueError(
            f"{xml_file}: has an object of class {quoted(obj['name'])}, which is not among the "
            f"classes ({', '.join(index)}).{did_you_mean(obj['name'], index)}"
        )
    x0, y0, x1, y1 = obj["bbox"]
    return {
        "category_id": index[obj["name"]],
        "bbox": [x0 - float(first_pixel), y0 - float(first_pixel), x1, y1],
        "bbox_mode": BoxMode.XYXY_ABS,
        "difficult": obj["difficult"],
    }


def register_pascal_voc(
    name: str,
    dirname: str,
    split: str,
    year: int,
    class_names: Sequence[str] = CLASS_NAMES,
) -> None:
    """Register a split of a VOC folder.

    It is evaluated with VOC's own metric, unless `evaluator_type` is set in its metadata.

    Args:
        name: such as "voc_2007_trainval".
        dirname: folder with "Annotations", "ImageSets" and "JPEGImages".
        split: a list in "ImageSets/Main".
        year: 2007 (AP of 11 points) or 2012 (area under the curve).
        class_names: the classes in order.
    """
    DatasetCatalog.register(name, partial(load_voc_instances, dirname, split, class_names))
    MetadataCatalog.get(name).set(
        thing_classes=list(class_names),
        dirname=dirname,
        year=year,
        split=split,
    )
