"""The common form of all layouts: dataset dicts by split, and their classes."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from d2lite.data.ground_truth import normalize_dicts
from d2lite.data.image_io import read_image_size
from d2lite.data.layouts.outlines import box_of_polygons
from d2lite.structures import BoxMode
from d2lite.utils.errors import quoted, shortened
from d2lite.utils.registry import did_you_mean

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
ALL = "all"
"""Name of the only split of data without splits."""


@dataclass
class LabeledImages:
    """Images with objects, as a reader returns them and a writer takes them."""

    layout: str
    """Its name in `LAYOUTS`."""
    root: str
    """The folder that contains everything."""
    class_names: list[str]
    """By category_id."""
    splits: dict[str, list[dict]]
    """Dataset dicts of those of "train", "val" and "test" that exist, or of "all".

    Boxes are XYXY_ABS in pixels of the upright image; "iscrowd" and "difficult" are present
    only if they are 1.
    """
    category_ids: list[int] | None = None
    """The ids that the classes have in the file, if it has ids."""
    keypoints: dict[str, Any] = field(default_factory=dict)
    """Metadata: "keypoint_names", "keypoint_flip_map", "keypoint_connection_rules"."""
    missing: list[str] = field(default_factory=list)
    """Images that annotations name but the folder lacks, with the file that names them."""
    notes: list[str] = field(default_factory=list)
    """What the reader decided or left out, one line each."""

    def records(self) -> list[dict]:
        """Return the dataset dicts of all splits, one after another."""
        return [record for records in self.splits.values() for record in records]

    def relative(self, record: dict) -> str:
        """Return the path of an image relative to the root, with forward slashes.

        An image outside the root gets its file name.
        """
        path = os.path.relpath(record["file_name"], self.root).replace(os.sep, "/")
        return os.path.basename(path) if path.startswith("../") else path

    def kinds(self) -> tuple[str, ...]:
        """Return what can be learned: "boxes", then "masks" and "keypoints" if all objects have
        them."""
        objects = [a for r in self.records() for a in r["annotations"] if not a.get("iscrowd")]
        found = ["boxes"]
        if objects and all("segmentation" in annotation for annotation in objects):
            found.append("masks")
        if objects and self.keypoints and all("keypoints" in one for one in objects):
            found.append("keypoints")
        return tuple(found)

    def metadata(self) -> dict[str, Any]:
        """Return what the catalog stores about each split."""
        found = {"thing_classes": list(self.class_names), "evaluator_type": "coco"}
        if self.category_ids is not None:
            ids = {number: index for index, number in enumerate(self.category_ids)}
            found["thing_dataset_id_to_contiguous_id"] = ids
        return {**found, **self.keypoints}

    def require_images(self) -> None:
        """Raise FileNotFoundError if images are missing."""
        if self.missing:
            raise FileNotFoundError(
                f"{self.root}: {counted(len(self.missing), 'image')} not found, the first is "
                f"{shortened(self.missing[0], 400)}; add the files, or remove their annotations"
            )


def counted(number: int, what: str) -> str:
    """Return "1 image", "2 images", "2 boxes"."""
    plural = f"{what}es" if what.endswith("x") else f"{what}s"
    return f"{number} {what if number == 1 else plural}"


def relative_stem(path: str, root: str) -> str:
    """Return the path below a folder without its extension, with forward slashes: an image's id."""
    return os.path.splitext(os.path.relpath(path, root))[0].replace(os.sep, "/")


def class_indices(
    names: Iterable[str], listed: Sequence[str] | None, source: str
) -> dict[str, int]:
    """Return the index of each class: in the order of the list, or else alphabetically.

    Args:
        names: the classes of all objects.
        listed: the classes in the order in which the data list them; None without a list.
        source: where the list is, for messages.
    Raises:
        ValueError: an object has a class that is not listed, or there is no class at all.
    """
    used = set(names)
    if listed is not None:
        unknown = sorted(used - set(listed))
        if unknown:
            raise ValueError(
                f"{source}: class {quoted(unknown[0])} of an object is not among the {len(listed)} "
                "classes there "
                f"({shortened(', '.join(listed[:6]))}).{did_you_mean(unknown[0], listed)} "
                "Add it, or correct the object"
            )
    ordered = list(listed) if listed is not None else sorted(used)
    if not ordered:
        raise ValueError(f"{source}: no image has an object, so there are no classes")
    return {name: index for index, name in enumerate(ordered)}


def finish_records(
    records: list[dict],
    source: str,
    describe: Callable[[dict, int], str] | None = None,
    *,
    normalize: bool = True,
) -> list[dict]:
    """Convert the records of a reader to the form that all readers share.

    Images without a size get the size of the file; objects without a box get the box around their
    polygons.

    Args:
        records: dataset dicts; changed.
        describe: as for `normalize_dicts`.
        normalize: False if `normalize_dicts` was applied already.
    Raises:
        ValueError: an image is listed twice, or as `normalize_dicts`.
        ImageReadError: an image whose size is needed does not decode.
    """
    repeated = [(name, n) for name, n in Counter(r["file_name"] for r in records).items() if n > 1]
    if repeated:
        raise ValueError(
            f"{source}: image {repeated[0][0]} is listed {repeated[0][1]} times; put its objects "
            "under one entry"
        )
    for record in records:
        if "height" not in record:
            record["height"], record["width"] = read_image_size(record["file_name"])
        for annotation in record["annotations"]:
            if "bbox" not in annotation:
                annotation["bbox"] = box_of_polygons(annotation["segmentation"])
                annotation["bbox_mode"] = BoxMode.XYXY_ABS
    if normalize and records:
        records = normalize_dicts(records, source, describe)
    for record in records:
        record["annotations"] = [_canonical(annotation) for annotation in record["annotations"]]
    return records


def _canonical(annotation: dict) -> dict:
    """Return an annotation with an XYXY or rotated box, without redundant entries."""
    box, mode = [float(v) for v in annotation["bbox"]], annotation["bbox_mode"]
    if mode == BoxMode.XYWH_ABS:  # in double precision, unlike BoxMode's conversion
        box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        mode = BoxMode.XYXY_ABS
    found = {"category_id": annotation["category_id"], "bbox": box, "bbox_mode": mode}
    if mode == BoxMode.XYXY_ABS and "segmentation" not in annotation and "area" in annotation:
        area = (box[2] - box[0]) * (box[3] - box[1])
        if abs(annotation["area"] - area) <= 0.01 + 1e-3 * area:
            annotation = {key: value for key, value in annotation.items() if key != "area"}
    rest = {key: value for key, value in annotation.items() if key not in found}
    return found | {
        key: value for key, value in rest.items() if value or key not in ("iscrowd", "difficult")
    }
