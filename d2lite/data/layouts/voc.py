"""Pascal VOC: an XML file for each image, in VOC's folders or, as labelImg does, next to it."""

import logging
import re
import xml.etree.ElementTree as ET

from d2lite.data.datasets.pascal_voc import (
    read_image_list,
    read_voc_file_name,
    read_voc_objects,
    voc_records,
)
from d2lite.data.layouts.files import Folder, split_of
from d2lite.data.layouts.labeled import (
    ALL,
    SPLITS,
    LabeledImages,
    class_indices,
    counted,
    finish_records,
    relative_stem,
)
from d2lite.data.layouts.writing import Destination, Holds, shown_number

logger = logging.getLogger(__name__)

HOLDS = Holds(difficult=True)
CLASS_LIST = "classes.txt"
_ROOT = re.compile(rb"<annotation[\s>]")
# The first of these lists that exists is used.
_LISTS = {"train": ("train", "trainval"), "val": ("val", "valid"), "test": ("test",)}


def find_voc(folder: Folder) -> bool:
    """Return whether a folder `Annotations` has XML files in VOC's format."""
    return any("annotations" in _folders(file) for file in _voc_files(folder, few=True))


def find_labelimg(folder: Folder) -> bool:
    """Return whether other folders, such as those of images, have XML files in VOC's format."""
    return any("annotations" not in _folders(file) for file in _voc_files(folder, few=True))


def _folders(file: str) -> list[str]:
    return file.lower().split("/")[:-1]


def _voc_files(folder: Folder, few: bool = False) -> list[str]:
    """Return the XML files whose root is <annotation>; `few`: only the first of each folder."""
    found, known = [], set()
    for file in folder.candidates(".xml"):
        place = file.rpartition("/")[0]
        if place in known:
            if not few:
                found.append(file)
            continue
        with open(folder.path(file), "rb") as opened:
            if _ROOT.search(opened.read(4096).replace(b"\0", b"")):  # without the zeros of UTF-16
                known.add(place)
                found.append(file)
    return found


def read_voc(folder: Folder) -> LabeledImages:
    """Read VOC annotations; classes are in alphabetical order unless `classes.txt` lists them.

    VOC counts pixels from 1 and includes the last. If any box starts at 0, the program that wrote
    the files counts from 0, and nothing is subtracted.
    """
    files = _voc_files(folder)
    lowest, names = 1.0, set()
    for file in files:
        for obj in read_voc_objects(folder.path(file), needs_size=False)[1]:
            lowest = min(lowest, *obj["bbox"][:2])
            names.add(obj["name"])
    lists = [f for f in folder.files if f.lower().rpartition("/")[2] == CLASS_LIST]
    listed = folder.lines(lists[0]) if lists and folder.only is None else None
    if listed is not None and not names <= set(listed):
        listed = None  # a file of another program
    index = class_indices(names, listed, folder.root)
    data = LabeledImages("voc", folder.root, list(index), {})
    if lowest <= 0:
        data.notes.append("a box starts at 0, so pixels count from 0 and not, as in VOC, from 1")
    for split, chosen in _splits(folder, files).items():
        triples = []
        for file in chosen:
            image = _find_image(folder, file)
            if image is None:
                data.missing.append(f"the image of {folder.path(file)}")
            else:
                triples.append((relative_stem(image, folder.root), image, folder.path(file)))
        records = voc_records(
            triples,
            data.class_names,
            f"{folder.root}, {split}",
            needs_size=False,
            first_pixel=int(lowest > 0),
        )
        data.splits[split] = finish_records(records, folder.root, normalize=False)
    found = len(data.records()) + len(data.missing)
    if len(folder.images) > found and not any(f.startswith("SegmentationC") for f in folder.files):
        data.notes.append(
            f"left out {counted(len(folder.images) - found, 'image')} without an XML file"
        )
    return data


def _find_image(folder: Folder, file: str) -> str | None:
    """Return the image of the same name; otherwise the one that the file names."""
    stem = file.rpartition("/")[2][: -len(".xml")]
    found = folder.find_image(stem, file)
    return found or folder.find_image(read_voc_file_name(folder.path(file)), file)


def _splits(folder: Folder, files: list[str]) -> dict[str, list[str]]:
    """Return the XML files of each split: by the lists in ImageSets/Main, else by folder."""
    bases = {
        f[: -len("ImageSets/Main/")]: None
        for f in (f.rpartition("/")[0] + "/" for f in folder.files if f.lower().endswith(".txt"))
        if f.endswith("ImageSets/Main/")
    }
    found: dict[str, list[str]] = {}
    for base in bases:
        names = {
            split: next(
                (n for n in choices if f"{base}ImageSets/Main/{n}.txt" in folder.files), None
            )
            for split, choices in _LISTS.items()
        }
        known = set(files)
        for split, name in names.items():
            if name is None:
                continue
            list_file = f"{base}ImageSets/Main/{name}.txt"
            wanted = [f"{base}Annotations/{i}.xml" for i in read_image_list(folder.path(list_file))]
            absent = [file for file in wanted if file not in known]
            if absent and len(absent) == len(wanted) and split == "test":
                logger.info("%s: its images have no annotations", folder.path(list_file))
                continue  # VOC publishes its test images without annotations
            if absent:
                raise FileNotFoundError(
                    f"{folder.path(list_file)}: there is no {absent[0]} ({len(absent)} of "
                    f"{len(wanted)} XML files are missing); add it, or take the name off the list"
                )
            found.setdefault(split, []).extend(wanted)
    if found:
        return found
    by_split: dict[str, list[str]] = {}
    for file in files:
        by_split.setdefault(split_of(file.rpartition("/")[0]), []).append(file)
    return {split: by_split[split] for split in (*SPLITS, ALL) if split in by_split}


def write_voc(target: Destination) -> None:
    """Write `Annotations/`, `JPEGImages/` and, if there are splits, their lists."""
    for split, records in target.data.splits.items():
        stems = []
        for record in records:
            path = target.place_image(record, split, "JPEGImages")
            stems.append(path.rpartition("/")[2].rpartition(".")[0])
            text = _xml_of(record, path, target.data.class_names)
            target.write_text(text, "Annotations", f"{stems[-1]}.xml")
        if split != ALL:
            target.write_text("".join(f"{s}\n" for s in stems), "ImageSets", "Main", f"{split}.txt")
    _write_class_list(target)


def write_labelimg(target: Destination) -> None:
    """Write each XML file beside its image, in a folder for each split."""
    for split, records in target.data.splits.items():
        for record in records:
            path = target.place_image(record, split, split)
            text = _xml_of(record, path, target.data.class_names)
            target.write_text(text, f"{path.rpartition('.')[0]}.xml")
    _write_class_list(target)


def _write_class_list(target: Destination) -> None:
    names = target.data.class_names
    used = {a["category_id"] for record in target.data.records() for a in record["annotations"]}
    if names != sorted(names) or len(used) < len(names):
        target.write_text("".join(f"{name}\n" for name in names), CLASS_LIST)


def _xml_of(record: dict, path: str, class_names: list[str]) -> str:
    root = ET.Element("annotation")
    folder, _, name = path.rpartition("/")
    ET.SubElement(root, "folder").text = folder
    ET.SubElement(root, "filename").text = name
    size = ET.SubElement(root, "size")
    for key, value in (("width", record["width"]), ("height", record["height"]), ("depth", 3)):
        ET.SubElement(size, key).text = str(value)
    for annotation in record["annotations"]:
        item = ET.SubElement(root, "object")
        ET.SubElement(item, "name").text = class_names[annotation["category_id"]]
        ET.SubElement(item, "difficult").text = str(annotation.get("difficult", 0))
        box = ET.SubElement(item, "bndbox")
        x0, y0, x1, y1 = annotation["bbox"]
        # Pixels from 1. A box that starts outside the image would look like counting from 0.
        numbers = (max(x0, 0.0) + 1, max(y0, 0.0) + 1, x1, y1)
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), numbers, strict=True):
            ET.SubElement(box, key).text = shown_number(value)
    ET.indent(root, "\t")
    return ET.tostring(root, encoding="unicode") + "\n"
