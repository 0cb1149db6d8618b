"""Load datasets by name as lists of dicts, filtered and checked."""

import itertools
import logging
import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch.utils.data as torchdata
from tabulate import tabulate
from termcolor import colored

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.detection_utils import check_metadata_consistency
from d2lite.data.ground_truth import NormalizedDicts, normalize_dicts
from d2lite.structures import BoxMode
from d2lite.utils.errors import ArgumentError, file_errors, quoted
from d2lite.utils.file_io import PathManager
from d2lite.utils.logger import log_first_n
from d2lite.utils.plain_pickle import PLAIN_GLOBALS, Named, PlainUnpickler, RefusedGlobalError

logger = logging.getLogger(__name__)


def get_detection_dataset_dicts(
    names: str | Sequence[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: Sequence[str] | None = None,
    check_consistency: bool = True,
) -> list[dict] | torchdata.Dataset:
    """Load datasets, normalize them (see `normalize_dicts`), and concatenate them.

    Args:
        names: names or URIs of datasets, or a single one.
        filter_empty: skip images without annotations other than crowds.
        min_keypoints: skip images with fewer visible keypoints; 0 keeps all.
        proposal_files: one proposal file per dataset.
        check_consistency: compare the class names of the datasets with each other and with the
            annotations, and log the number of instances of each class.
    Returns:
        One list; or a torch dataset, if the catalog has torch datasets under these names.
    Raises:
        KeyError: a dataset is not registered.
        ValueError: a dataset is empty, an annotation is malformed, class names differ, or a
            category id is out of range.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ArgumentError("no dataset is named; set DATASETS.TRAIN or DATASETS.TEST")
    loaded = [DatasetCatalog.get(name) for name in names]
    if isinstance(loaded[0], torchdata.Dataset):
        return torchdata.ConcatDataset(loaded) if len(loaded) > 1 else loaded[0]
    for name, dicts in zip(names, loaded, strict=True):
        if len(dicts) == 0:
            raise ArgumentError(f"dataset {name!r} is empty: it has no images")
    loaded = [
        normalize_dicts(dicts, f"dataset {name!r}")
        for name, dicts in zip(names, loaded, strict=True)
    ]
    for name, dicts in zip(names, loaded, strict=True):
        _check_form(name, dicts, with_annotations=filter_empty or check_consistency)
    if proposal_files is not None:
        loaded = _with_proposals(names, loaded, proposal_files)
    dataset_dicts = list(itertools.chain.from_iterable(loaded))

    has_instances = any("annotations" in one for one in dataset_dicts)
    if filter_empty and has_instances:
        dataset_dicts = filter_images_with_only_crowd_annotations(dataset_dicts)
    if min_keypoints > 0 and has_instances:
        dataset_dicts = filter_images_with_few_keypoints(dataset_dicts, min_keypoints)
    if not dataset_dicts and min_keypoints > 0:
        raise ArgumentError(
            f"no image of {', '.join(names)} has annotations with {min_keypoints} visible keypoints"
            "; see MODEL.KEYPOINT_ON and MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE"
        )
    if not dataset_dicts:
        raise ArgumentError(
            f"no image of {', '.join(names)} has an annotation to train on (crowds do not count); "
            "add some, or set DATALOADER.FILTER_EMPTY_ANNOTATIONS False to train on empty images"
        )
    if check_consistency and has_instances:
        _check_classes(names, dataset_dicts)
    return NormalizedDicts(dataset_dicts, names)


def _check_form(name: str, dicts: Iterable[Any], *, with_annotations: bool) -> None:
    for index, one in enumerate(dicts):
        if not isinstance(one, dict):
            raise ArgumentError(
                f"dataset {name!r}: item number {index} is not a dict: {one!r:.100}"
            )
        rows = one.get("annotations", ())
        if with_annotations and not (
            isinstance(rows, (list, tuple)) and all(isinstance(row, Mapping) for row in rows)
        ):
            where = one.get("file_name", f"item number {index}")
            raise ArgumentError(
                f"dataset {name!r}: the annotations of {where} are {rows!r:.100}; expected a list "
                "of dicts"
            )


def _with_proposals(
    names: list[str], loaded: list[list[dict]], proposal_files: Sequence[str]
) -> list[list[dict]]:
    if len(proposal_files) != len(names):
        raise ValueError(
            f"{len(proposal_files)} proposal files for {len(names)} datasets ({', '.join(names)});"
            " set DATASETS.PROPOSAL_FILES_TRAIN and _TEST to one file for each"
        )
    return [
        load_proposals_into_dataset(dicts, file)
        for dicts, file in zip(loaded, proposal_files, strict=True)
    ]


def _check_classes(names: list[str], dataset_dicts: list[dict]) -> None:
    if all(MetadataCatalog.get(name).get("thing_classes") is None for name in names):
        return  # nothing is known about the classes
    try:
        check_metadata_consistency("thing_classes", names)
    except AttributeError as error:
        raise ValueError(f"datasets used together must all have class names: {error}") from None
    class_names = MetadataCatalog.get(names[0]).thing_classes
    for one in dataset_dicts:
        for anno in one.get("annotations", ()):
            category = anno.get("category_id")
            if not isinstance(category, Integral) or not 0 <= category < len(class_names):
                raise ValueError(
                    f"{one.get('file_name', 'an image')}: an annotation has category_id "
                    f"{category!r}, but the {len(class_names)} thing_classes of the dataset have "
                    f"ids 0 to {len(class_names) - 1}. Correct the annotation or the thing_classes"
                )
    print_instances_class_histogram(dataset_dicts, class_names)


def filter_images_with_only_crowd_annotations(dataset_dicts: list[dict]) -> list[dict]:
    """Drop images that have no annotations or only crowds."""
    kept = [
        one
        for one in dataset_dicts
        if any(anno.get("iscrowd", 0) == 0 for anno in one.get("annotations", ()))
    ]
    logger.info(
        "Removed %s images with no usable annotations. %s images left.",
        len(dataset_dicts) - len(kept),
        len(kept),
    )
    return kept


def filter_images_with_few_keypoints(
    dataset_dicts: list[dict], min_keypoints_per_image: int
) -> list[dict]:
    """Drop images whose annotations have fewer visible keypoints (v > 0) in total."""
    kept = []
    for one in dataset_dicts:
        visible = sum(
            int((np.asarray(anno["keypoints"]).reshape(-1)[2::3] > 0).sum())
            for anno in one.get("annotations", ())
            if "keypoints" in anno
        )
        if visible >= min_keypoints_per_image:
            kept.append(one)
    logger.info(
        "Removed %s images with fewer than %s keypoints.",
        len(dataset_dicts) - len(kept),
        min_keypoints_per_image,
    )
    return kept


def print_instances_class_histogram(dataset_dicts: list[dict], class_names: Sequence[str]) -> None:
    """Log the number of instances of each class, without crowds.

    Args:
        dataset_dicts: with annotations.
        class_names: by category id.
    """
    classes = [
        anno["category_id"]
        for one in dataset_dicts
        for anno in one.get("annotations", ())
        if not anno.get("iscrowd", 0)
    ]
    counts = np.bincount(np.asarray(classes, dtype=np.int64), minlength=len(class_names))
    cells = [
        cell
        for name, count in zip(map(str, class_names), counts.tolist(), strict=True)
        for cell in (name if len(name) <= 13 else f"{name[:11]}..", count)
    ]
    cells += [None] * (-len(cells) % 2) + ["total", int(counts.sum())]
    columns = min(6, len(cells))
    table = tabulate(
        [cells[start : start + columns] for start in range(0, len(cells), columns)],
        headers=["category", "#instances"] * (columns // 2),
        tablefmt="pipe",
        numalign="left",
        stralign="center",
    )
    log_first_n(
        logging.INFO,
        f"Distribution of instances among all {len(class_names)} categories:\n"
        + colored(table, "cyan"),
        key="message",
    )


def load_proposals_into_dataset(dataset_dicts: list[dict], proposal_file: str) -> list[dict]:
    """Add precomputed proposals to the dicts of a dataset.

    Args:
        dataset_dicts: each with "image_id"; modified and returned. They get "proposal_boxes",
            "proposal_objectness_logits", best first, and "proposal_bbox_mode".
        proposal_file: a pickled dict with "ids", "boxes" and "objectness_logits", one entry per
            image, and optionally "bbox_mode" (XYXY_ABS by default).
    Raises:
        ValueError: the file has other content, or lacks an image.
    """
    logger.info("Loading proposals from %s", proposal_file)
    proposals = _read_proposals(proposal_file)
    with file_errors(ValueError, proposal_file, "not a file of proposals"):
        mode = BoxMode(proposals.get("bbox_mode", BoxMode.XYXY_ABS))
        row_of = {str(image_id): row for row, image_id in enumerate(proposals["ids"])}
    for one in dataset_dicts:
        row = row_of.get(str(one["image_id"]))
        if row is None:
            raise ValueError(
                f"{proposal_file} has no proposals for image_id {quoted(one['image_id'])}"
            )
        where = f"{proposal_file}: image_id {quoted(one['image_id'])}"
        with file_errors(ValueError, where, "its proposals are malformed"):
            logits = np.asarray(proposals["objectness_logits"][row])
            boxes = np.asarray(proposals["boxes"][row])
            sides = 5 if mode == BoxMode.XYWHA_ABS else 4
            if boxes.shape == logits.shape == (0,):  # an empty list has no sides
                boxes = boxes.reshape(0, sides)
            if logits.ndim != 1 or boxes.shape != (len(logits), sides):
                raise ValueError(
                    f"{where}: has boxes of the shape {boxes.shape} and logits of {logits.shape}; "
                    f"expected (N, {sides}) and (N,)"
                )
            if not all(v.dtype.kind in "fiu" and np.isfinite(v).all() for v in (boxes, logits)):
                raise ValueError(f"{where}: its proposals have values that are not finite numbers")
        order = logits.argsort()[::-1]
        one["proposal_boxes"] = boxes[order]
        one["proposal_objectness_logits"] = logits[order]
        one["proposal_bbox_mode"] = mode
    return dataset_dicts


# BoxMode under all the names that it had.
_PROPOSAL_GLOBALS = {
    **PLAIN_GLOBALS,
    **{
        f"{package}.structures{module}.BoxMode": Named("BoxMode", BoxMode)
        for package in ("detectron2", "d2lite")
        for module in ("", ".boxes", ".box_mode")
    },
}
_OLD_KEYS = {"indexes": "ids", "scores": "objectness_logits"}  # Detectron1's


def _read_proposals(proposal_file: str) -> dict[str, Any]:
    with PathManager.open(proposal_file, "rb") as file:
        try:
            found = PlainUnpickler(file, os.stat(file.fileno()).st_size, _PROPOSAL_GLOBALS).load()
        except RefusedGlobalError as refused:
            raise ValueError(
                f"{proposal_file}: not a file of proposals: it names {refused}, which proposals do "
                "not need"
            ) from None
        except (pickle.UnpicklingError, MemoryError) as error:
            raise ValueError(f"{proposal_file}: not a file of proposals: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{proposal_file}: expected a dict, found a {type(found).__name__}")
    found = {_OLD_KEYS.get(key, key): value for key, value in found.items()}
    missing = {"ids", "boxes", "objectness_logits"} - found.keys()
    if missing:
        raise ValueError(f"{proposal_file}: has no {', '.join(sorted(missing))}")
    return found
