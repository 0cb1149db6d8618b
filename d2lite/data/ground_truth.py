"""Check and complete dataset dicts, in the same way for training and evaluation.

File readers run it on their output, loaders and evaluators on dicts from the catalog. So evaluators
use the same objects as training, whatever their source. Single annotations are checked in
`annotations.py`.
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
from d2lite.utils.errors import quoted

logger = logging.getLogger(__name__)


class NormalizedDicts(list):
    """Dataset dicts that have passed `normalize_dicts`, so that loaders don't repeat it.

    Attributes:
        names: names of the datasets, for messages.
    """

    def __init__(self, dicts: list[dict], names: Sequence[str]):
        super().__init__(dicts)
        self.names = list(names)


def normalize_dicts(
    dataset_dicts: list[dict],
    source: str,
    describe: Callable[[dict, int], str] | None = None,
) -> list[dict]:
    """Check dataset dicts, add what evaluation needs, and drop annotations that can't be learned.

    Dicts without "image_id" get one, counted from 0; if any dict has "annotations", all get them.
    Annotations are converted by `normalize_annotation`; those without area or outside of their
    image are dropped, with a warning that counts them.

    Args:
        dataset_dicts: not modified. Items and annotations that are not dicts are kept unchanged.
        source: file or dataset, for messages.
        describe: names annotation number `index` of a dict, for messages.
    Raises:
        ValueError: an image or an annotation has an invalid value; no annotation is left; or all
            boxes are fractions of their images.
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
    """Return the dicts of a registered dataset with the ids and sizes that evaluators need.

    If the dicts have no annotations, but the metadata has a `json_file`, they are loaded from there
    as COCO instances.

    Args:
        sizes: read missing "height" and "width" from the images.
    Raises:
        ValueError: two images have the same "image_id"; or see `normalize_dicts`.
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
            f"{source}: image_id {quoted(repeated[0][0])} occurs {repeated[0][1]} times; each "
            "image needs one of its own, since predictions are assigned by it"
        )
    if len({isinstance(record["image_id"], str) for record in records}) > 1:
        raise ValueError(
            f"{source}: some values of image_id are numbers, others are strings; use one kind"
        )
    for record in records if sizes else ():
        if "height" not in record or "width" not in record:
            if "file_name" not in record:
                raise ValueError(
                    f"{source}: image {quoted(record['image_id'])} has no height and width, and no "
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
            f"{where} has image_id {quoted(record['image_id'])}; expected a whole number or a "
            "string"
        )
    for key in ("height", "width"):
        side = record.get(key)
        if side is None:
            record.pop(key, None)
        elif isinstance(side, float) and side.is_integer():
            record[key] = int(side)
        elif not isinstance(side, Integral):
            raise ValueError(f"{where} has {key} {quoted(side)}; expected a whole number of pixels")
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
        return annotations  # in a format of a custom mapper
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
    """Raise an error if the boxes seem to be fractions of the image: no value is above 1, and not
    all are whole numbers."""
    boxes = (
        annotation["bbox"]
        for record in records
        for annotation in record["annotations"]
        if isinstance(annotation, Mapping)
        and "bbox" in annotation
        and annotation.get("bbox_mode") is not None  # else only a custom mapper knows the format
    )
    first = next(boxes, None)
    if first is None or max(first[:4]) > 1:
        return  # the usual case
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
    """Warn of dropped annotations; raise an error if none is left."""
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
