"""Writing data in a layout: what it can store, where images go, and what is lost."""

import contextlib
import os
import shutil
from collections import Counter
from typing import Any, NamedTuple

from d2lite.data.layouts.labeled import ALL, LabeledImages
from d2lite.data.layouts.outlines import box_of_polygons, polygons_of
from d2lite.structures import BoxMode
from d2lite.utils.errors import ArgumentError


class Holds(NamedTuple):
    """What a layout can express besides upright boxes and classes."""

    masks: str = ""
    """"" for none, "parts" for objects of several polygons, "one" for a single polygon, "any" for
    polygons and pixel masks, with boxes that need not match them."""
    keypoints: bool = False
    crowds: bool = False
    """Regions that are left out of evaluation."""
    difficult: bool = False
    unused_classes: bool = True
    """Classes without objects, and the order of the classes."""


class Destination:
    """A new folder that a writer fills.

    Attributes:
        data: what to write, reduced to what the layout can store.
        root: the folder.
        losses: what could not be kept, with the number of times.
    """

    def __init__(self, data: LabeledImages, root: str, holds: Holds, *, link: bool = False):
        """
        Args:
            data: what to write; not changed.
            root: the folder; created if it does not exist.
            holds: what the layout can store.
            link: link to the images instead of copying them.

        Raises:
            ArgumentError: the folder has files already.
        """
        if os.path.isdir(root) and os.listdir(root):
            raise ArgumentError(f"{root} is not empty; give a new folder")
        os.makedirs(root, exist_ok=True)
        self.root = root
        self.losses: Counter[str] = Counter()
        self._link = link
        self.data = LabeledImages(
            data.layout,
            data.root,
            list(data.class_names),
            {
                split: [self._record(record, holds) for record in records]
                for split, records in data.splits.items()
            },
            data.category_ids,
            data.keypoints if holds.keypoints else {},
        )
        self._names = _unique_names(self.data)

    def _record(self, record: dict, holds: Holds) -> dict:
        annotations = []
        for annotation in record["annotations"]:
            if annotation.get("iscrowd") and not holds.crowds:
                self.losses["crowds left out"] += 1
                continue
            annotations.append(self._annotation(dict(annotation), holds))
        return {**record, "annotations": annotations}

    def _annotation(self, annotation: dict, holds: Holds) -> dict:
        if "keypoints" in annotation and not holds.keypoints:
            self.losses["objects without their keypoints"] += 1
            del annotation["keypoints"]
        if annotation.get("difficult") and not holds.difficult:
            self.losses["objects without the mark 'difficult'"] += 1
            del annotation["difficult"]
        if annotation["bbox_mode"] == BoxMode.XYWHA_ABS and holds.masks != "any":
            self.losses["rotated boxes as the upright boxes around them"] += 1
            box = BoxMode.convert(annotation["bbox"], BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS)
            annotation.update(bbox=list(map(float, box)), bbox_mode=BoxMode.XYXY_ABS)
        if "segmentation" not in annotation or holds.masks == "any":
            return annotation
        # The outline becomes what "parts" or "one" can hold.
        segmentation = annotation.pop("segmentation")
        polygons, exact = polygons_of(segmentation) if holds.masks else ([], True)
        if not polygons:
            self.losses["objects without their outlines"] += 1
            return annotation
        if not exact:
            self.losses["masks of pixels as polygons around them"] += 1
        if len(polygons) > 1 and holds.masks == "one":
            self.losses["objects of several polygons as one joined polygon"] += 1
        around = box_of_polygons(polygons)
        if max(abs(a - b) for a, b in zip(around, annotation["bbox"], strict=True)) > 0.5:
            self.losses["boxes as those around the outlines"] += 1
        annotation["segmentation"] = polygons
        return annotation

    def name_of(self, record: dict, split: str) -> str:
        """Return the file name for an image; names are unique even without their extensions."""
        return self._names[split, record["file_name"]]

    def place_image(self, record: dict, split: str, *folders: str) -> str:
        """Copy or link an image into a folder and return its path below the root.

        Args:
            folders: below the root; "all" and "" stand for none.
        """
        parts = [part for part in folders if part not in ("", ALL)]
        name = self.name_of(record, split)
        target = os.path.join(self.root, *parts, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        source = os.path.abspath(record["file_name"])
        if self._link:
            with contextlib.suppress(OSError):  # Windows requires a privilege for links
                os.symlink(source, target)
        if not os.path.exists(target):
            shutil.copyfile(source, target)
        return "/".join([*parts, name])

    def write_text(self, text: str, *path: str) -> None:
        """Write a text file below the root; "all" and "" in its path stand for no folder."""
        target = os.path.join(self.root, *(part for part in path if part not in ("", ALL)))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)


def _unique_names(data: LabeledImages) -> dict[tuple[str, str], str]:
    """Return a unique name for every image of every split: its own name, if possible."""
    stems = Counter(
        os.path.splitext(os.path.basename(record["file_name"]))[0].lower()
        for record in data.records()
    )
    taken: set[str] = set()
    names = {}
    for split, records in data.splits.items():
        for record in records:
            stem, suffix = os.path.splitext(os.path.basename(record["file_name"]))
            if stems[stem.lower()] > 1:
                stem, suffix = os.path.splitext(data.relative(record).replace("/", "_"))
            candidate, number = stem, 1
            while candidate.lower() in taken:
                number += 1
                candidate = f"{stem}_{number}"
            taken.add(candidate.lower())
            names[split, record["file_name"]] = candidate + suffix
    return names


def shown_number(value: Any, digits: int = 3) -> str:
    """Return a number for a text file: rounded, without trailing zeros."""
    text = f"{float(value):.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"
    return "0" if text == "-0" else text
