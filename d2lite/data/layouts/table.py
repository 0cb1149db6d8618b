"""The table of layouts, and detecting which one a folder has."""

import os
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from d2lite.data.layouts import coco, csv_table, cvat, labelme, open_images, via, voc, yolo
from d2lite.data.layouts.files import Folder
from d2lite.data.layouts.labeled import ALL, SPLITS, LabeledImages, counted
from d2lite.data.layouts.writing import Destination, Holds
from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import did_you_mean


class Layout(NamedTuple):
    """One way to store images with objects."""

    title: str
    looks_like: str
    """How to recognize it, for messages."""
    find: Callable[[Folder], bool]
    read: Callable[[Folder], LabeledImages]
    write: Callable[[Destination], None]
    holds: Holds


LAYOUTS: dict[str, Layout] = {
    "coco": Layout(
        "COCO JSON",
        "a .json file with 'images' and 'annotations'",
        coco.find_coco,
        coco.read_coco,
        coco.write_coco,
        coco.HOLDS,
    ),
    "roboflow": Layout(
        "Roboflow's COCO JSON",
        "_annotations.coco.json beside images",
        coco.find_roboflow,
        coco.read_coco,
        coco.write_roboflow,
        coco.HOLDS,
    ),
    "voc": Layout(
        "Pascal VOC",
        "Annotations/*.xml with <annotation>",
        voc.find_voc,
        voc.read_voc,
        voc.write_voc,
        voc.HOLDS,
    ),
    "labelimg": Layout(
        "labelImg's VOC files",
        ".xml files with <annotation> beside images",
        voc.find_labelimg,
        voc.read_voc,
        voc.write_labelimg,
        voc.HOLDS,
    ),
    "yolo": Layout(
        "YOLO",
        "a .yaml file with 'names', or .txt files of numbers named as the images",
        yolo.find_yolo,
        yolo.read_yolo,
        yolo.write_yolo,
        yolo.HOLDS,
    ),
    "csv": Layout(
        "CSV",
        "a .csv file with columns for image, class and box",
        csv_table.find_csv,
        csv_table.read_csv,
        csv_table.write_csv,
        csv_table.HOLDS,
    ),
    "via": Layout(
        "VGG Image Annotator",
        "a .json file with 'filename' and 'regions' of each image",
        via.find_via,
        via.read_via,
        via.write_via,
        via.HOLDS,
    ),
    "labelme": Layout(
        "LabelMe",
        ".json files with 'shapes' and 'imagePath'",
        labelme.find_labelme,
        labelme.read_labelme,
        labelme.write_labelme,
        labelme.HOLDS,
    ),
    "cvat": Layout(
        "CVAT for images 1.1",
        "an .xml file with <annotations>",
        cvat.find_cvat,
        cvat.read_cvat,
        cvat.write_cvat,
        cvat.HOLDS,
    ),
    "open_images": Layout(
        "Open Images",
        "a .csv file with ImageID, LabelName, XMin, XMax, YMin, YMax",
        open_images.find_open_images,
        open_images.read_open_images,
        open_images.write_open_images,
        open_images.HOLDS,
    ),
}


def layout_of(folder: Folder, name: str | None = None) -> str:
    """Return `name` if it is given and known, otherwise the layout of a listed folder.

    Raises the errors of `find_layout`.
    """
    if name is not None:
        if name not in LAYOUTS:
            raise ArgumentError(
                f"there is no layout {name!r}.{did_you_mean(name, LAYOUTS)} "
                f"Layouts: {', '.join(LAYOUTS)}"
            )
        return name
    path = folder.root if folder.only is None else folder.path(folder.only)
    found = [key for key, layout in LAYOUTS.items() if layout.find(folder)]
    if len(found) == 1:
        return found[0]
    if found:
        seen = " and ".join(f"{LAYOUTS[key].looks_like} ({key})" for key in found)
        raise ArgumentError(
            f"{path}: has {seen}; say which to read by its name as the layout (--layout "
            f"{found[0]}), or give the path of its folder or file"
        )
    suffixes = Counter(os.path.splitext(f)[1].lower() or "no extension" for f in folder.files)
    there = ", ".join(f"{count} x {suffix}" for suffix, count in suffixes.most_common(5))
    wanted = "; ".join(layout.looks_like for layout in LAYOUTS.values())
    raise ArgumentError(
        f"{path}: no known layout of annotations. Looked for: {wanted}. Found: {there}"
    )


def find_layout(path: str) -> str:
    """Detect the layout of a folder or annotation file and return its name.

    Raises:
        ArgumentError: the path does not exist, or has no known layout, or more than one; the
            message says what was looked for.
    """
    return layout_of(Folder(path))


def read_folder(path: str, layout: str | None = None) -> LabeledImages:
    """Read images with objects from a folder or annotation file.

    Args:
        path: a folder, or an annotation file.
        layout: a name in `LAYOUTS`; default: what `find_layout` finds.
    Returns:
        the data, with splits in the order train, val, test, or only "all". Missing images are
        listed in `missing`; see `LabeledImages.require_images`.
    Raises:
        ArgumentError: as `find_layout`.
        ValueError, OSError: the data are malformed; the message names file, line or record.
    """
    folder = Folder(path)
    name = layout_of(folder, layout)
    data = LAYOUTS[name].read(folder)
    data.layout = name
    data.splits = {s: data.splits[s] for s in (*SPLITS, ALL) if data.splits.get(s)}
    if len(data.splits) > 1 and ALL in data.splits:
        rest = data.splits.pop(ALL)
        data.notes.append(f"left out {counted(len(rest), 'image')} in no folder of a split")
    if not data.splits:
        data.require_images()
        raise ValueError(f"{path}: has no images with annotations")
    return data


def write_folder(
    data: LabeledImages, path: str, layout: str, *, link: bool = False
) -> dict[str, int]:
    """Write images with objects into a new folder.

    Args:
        data: as `read_folder` returns it.
        path: the folder; created if it does not exist.
        layout: a name in `LAYOUTS`.
        link: link to the images instead of copying them.
    Returns:
        what the layout cannot store, with the number of times it was lost.
    Raises:
        ArgumentError: the folder has files, or the layout is unknown.
        OSError: an image is missing, or the folder cannot be written.
    """
    if layout not in LAYOUTS:
        raise ArgumentError(
            f"there is no layout {layout!r}.{did_you_mean(layout, LAYOUTS)} "
            f"Layouts: {', '.join(LAYOUTS)}"
        )
    data.require_images()
    target = Destination(data, path, LAYOUTS[layout].holds, link=link)
    LAYOUTS[layout].write(target)
    return dict(target.losses)
