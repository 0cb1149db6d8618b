"""One pass over dataset dicts, for training and evaluation alike: what it checks, adds, leaves out.

Readers of files run it on what they have read, loaders and evaluators on what the catalog gives
them. So an evaluator sees the objects that training sees, whatever they were read from.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

from d2lite.data.annotations import MAX_PIXELS, AnnotationError, normalize_annotation
from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.image_io import read_image_size

logger = logging.getLogger(__name__)


class NormalizedDicts(list):
    """Dataset dicts that `normalize_dicts` has seen, so that a loader needn't do it again.

    Attributes:
        names: of the datasets, for messages.
    """

    def __init__(self, dicts: list[dict], names: Sequence[str]):
        super().__init__(dicts)
        self.names = list(names)


def normalize_dicts(
    dataset_dicts: list[dict],
    source: str,
    describe: Callable[[dict, int], str] | None = None,
) -> list[dict]:
    """Check dataset dicts, add what evaluation needs, and leave out what cannot be learned.

    Dicts without "image_id" get one, counted from 0; if any dict has "annotations", all have them.
    Annotations become what `normalize_annotation` makes of them; those that have no area, or lie
    outside of their image, are left out and counted in a warning.

    Args:
        dataset_dicts: not changed. Items that are no dicts, and annotations that are no dicts, are
            left as they are.
        source: file or dataset, for messages.
        describe: names annotation number `index` of a dict, for messages.
    Raises:
        ValueError: an image or an annotation has a value that it must not have; not a single
            annotation is left; or all boxes are fractions of their images.
    """
    if not all(isinstance(record, dict) for record in dataset_dicts):
        return dataset_dicts
    describe = describe or _describe
    with_annotations = any("annotations" in record for record in dataset_dicts)
    # Ids that no image has, of the type that the others have.
    used = {str(record.get("image_id")) for record in dataset_dicts}
    as_text = any(isinstance(record.get("image_id"), str) for record in dataset_dicts)
    new_ids: Iterator[Any] = (n for n in itertools.count() if str(n) not in used)
    new_ids = map(str, new_ids) if as_text else new_ids
    left_out: list[tuple[str, str]] = []  # reason, annotation
    records, kept = [], 0
    for record in dataset_dicts:
        record = {**record}
        if record.get("image_id") is None:
            record["image_id"] = next(new_ids)
        _check_image(record, source)
        if with_annotations:
            record["annotations"] = _normalize_annotations(record, source, describe, left_out)
            kept += len(record["annotations"])
        records.append(record)
    if left_out:
        _report(left_out, kept, source)
    if kept:
        _check_unit(records, source)
    return records


def load_ground_truth(dataset_name: str, *, sizes: bool = True) -> list[dict]:
    """Return the dicts of a registered dataset, as an evaluator needs them: ids and sizes are
    known.

    Where its dicts have no annotations but its metadata a `json_file`, these are read from there,
    as COCO instances.

    Args:
        sizes: read the "height" and "width" that dicts lack from their images.
    Raises:
        ValueError: two images have the same "image_id", or as `normalize_dicts`.
    """
    dicts = DatasetCatalog.get(dataset_name)
    source = f"dataset {dataset_name!r}"
    if not isinstance(dicts, list):  # a torch dataset
        dicts = [dicts[index] for index in range(len(dicts))]
    metadata = MetadataCatalog.get(dataset_name)
    json_file = metadata.get("json_file")
    if json_file and dicts and not any("annotations" in one for one in dicts):
        from d2lite.data.datasets.coco import load_coco_json

        dicts = load_coco_json(json_file, metadata.get("image_root") or "", dataset_name)
    records = normalize_dicts(dicts, source)
    repeated = [(i, n) for i, n in Counter(r["image_id"] for r in records).items() if n > 1]
    if repeated:
        raise ValueError(
            f"{source}: image_id {repeated[0][0]!r} occurs {repeated[0][1]} times; each image "
            "needs one of its own, since predictions are assigned by it"
        )
    if len({isinstance(record["image_id"], str) for record in records}) > 1:
        raise ValueError(
            f"{source}: some values of image_id are numbers, others are texts; use one kind"
        )
    for record in records if sizes else ():
        if "height" not in record or "width" not in record:
            if "file_name" not in record:
                raise ValueError(
                    f"{source}: image {record['image_id']!r} has no height and width, and no "
                    "file_name to read them from"
                )
            record["height"], record["width"] = read_image_size(record["file_name"])
    return records


def _describe(record: dict, index: int) -> str:
    return f"{record.get('file_name', record['image_id'])}: annotation number {index}"


def _check_image(record: dict, source: str) -> None:
    where = f"{source}: image {record.get('file_name', record['image_id'])}"
    if not isinstance(record["image_id"], (str, Integral)):
        raise ValueError(
            f"{where} has image_id {record['image_id']!r}; expected a whole number or a text"
        )
    for key in ("height", "width"):
        side = record.get(key)
        if side is None:
            record.pop(key, None)
        elif isinstance(side, float) and side.is_integer():
            record[key] = int(side)
        elif not isinstance(side, Integral):
            raise ValueError(f"{where} has {key} {side!r}; expected a whole number of pixels")
    sides = [record[key] for key in ("height", "width") if key in record]
    if min(sides, default=1) <= 0 or (len(sides) == 2 and sides[0] * sides[1] > MAX_PIXELS):
        size = " x ".join(map(str, sides))
        raise ValueError(f"{where} has the size {size} (height x width); expected that of an image")


def _normalize_annotations(
    record: dict,
    source: str,
    describe: Callable[[dict, int], str],
    left_out: list[tuple[str, str]],
) -> list:
    size = (record["height"], record["width"]) if {"height", "width"} <= record.keys() else None
    annotations = record.get("annotations")
    if annotations is None:
        return []
    if not isinstance(annotations, (list, tuple)):
        return annotations  # packed in a way of its mapper's
    kept = []
    for index, annotation in enumerate(annotations):
        if not isinstance(annotation, Mapping):
            kept.append(annotation)
            continue
        try:
            found = normalize_annotation(annotation, size)
        except AnnotationError as error:
            raise ValueError(f"{source}: {describe(record, index)} {error}") from None
        if isinstance(found, str):
            left_out.append((found, describe(record, index)))
        else:
            kept.append(found)
    return kept


def _check_unit(records: list[dict], source: str) -> None:
    """Raise an error where all boxes lie within the first pixel of their image, and not at its
    edges."""
    boxes = (
        annotation["bbox"]
        for record in records
        for annotation in record["annotations"]
        if isinstance(annotation, Mapping)
        and "bbox" in annotation
        and annotation.get("bbox_mode") is not None  # else its mapper knows what the numbers mean
    )
    first = next(boxes, None)
    if first is None or max(first[:4]) > 1:
        return  # as nearly always
    all_boxes = [first, *boxes]
    if max(max(box[:4]) for box in all_boxes) <= 1 and any(
        float(side) % 1 for box in all_boxes for side in box[:4]
    ):
        raise ValueError(
            f"{source}: no number of its {len(all_boxes)} boxes is above 1, the first is "
            f"{list(first)}; boxes are in pixels, so multiply fractions of an image by its width "
            "and height"
        )


def _report(left_out: list[tuple[str, str]], kept: int, source: str) -> None:
    """Warn of annotations that were left out; an error if there are no others."""
    first = dict(reversed(left_out))
    counts = Counter(reason for reason, _ in left_out)
    reasons = "; ".join(
        f"{count} with {reason} (the first is {first[reason]})" for reason, count in counts.items()
    )
    if not kept:
        raise ValueError(
            f"{source}: not one of the {len(left_out)} annotations can be used: {reasons}. Are the "
            "boxes in pixels, and in the order that the format asks for?"
        )
    logger.warning("%s: left out %s annotations: %s", source, len(left_out), reasons)
