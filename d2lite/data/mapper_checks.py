"""Check that dataset dicts have what DatasetMapper needs, before the first sample is made."""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from d2lite.data.dataset_mapper import MIXED_LABELS, DatasetMapper
from d2lite.data.ground_truth import NormalizedDicts
from d2lite.data.image_io import check_label_size, compare_size, read_image_size, read_labels
from d2lite.data.image_schemes import find_image_reader
from d2lite.data.missing_files import check_files_exist

logger = logging.getLogger(__name__)

# Number of image headers that are read for their sizes: all of an ordinary dataset, and a sample of
# a large one. Reading a header from a local disk takes 0.1 ms.
MAX_SIZES_READ = 5000


def check_for_mapper(
    dataset_dicts: NormalizedDicts, mapper: DatasetMapper, *, tolerant: bool = False
) -> None:
    """Check that the mapper can make a sample of every dict.

    Args:
        tolerant: only warn of images that are missing or have the wrong size, as they are skipped.
    Raises:
        FileNotFoundError: images or label images are missing.
        ValueError: boxes, masks or keypoints are missing or not in the format that the mapper
            expects, or the size of an image differs from that in its dict.
    """
    if not dataset_dicts:
        return
    for index, record in enumerate(dataset_dicts):
        if "file_name" not in record:
            names = ", ".join(dataset_dicts.names)
            raise ValueError(f"{names}: the dict of image number {index} has no 'file_name'")
    check_files_exist(dataset_dicts, dataset_dicts.names, tolerant=tolerant)
    check_image_sizes(dataset_dicts, tolerant=tolerant)
    if "sem_seg_file_name" in dataset_dicts[0] and not tolerant:
        read_labels(dataset_dicts[0]["sem_seg_file_name"])
    if not mapper.is_train:
        return
    total = sum(1 for _ in _instances(dataset_dicts))
    for needed in ("bbox", "bbox_mode", "category_id"):
        where = _first_without(dataset_dicts, needed)
        if where is not None:
            raise ValueError(f"{where} has no {needed!r}; every annotation needs one")
    if mapper.mixing is not None and any("sem_seg_file_name" in r for r in dataset_dicts):
        raise ValueError(MIXED_LABELS)
    if mapper.use_instance_mask:
        _check_masks(dataset_dicts, total, mapper.instance_mask_format)
    if mapper.use_keypoint:
        _check_keypoints(dataset_dicts, mapper.keypoint_hflip_indices)


def _instances(dataset_dicts: Sequence[dict]) -> Iterator[tuple[dict, int, dict]]:
    """Yield every annotation that is trained on, with its dict and its index there."""
    for record in dataset_dicts:
        for index, annotation in enumerate(record.get("annotations", ())):
            if not annotation.get("iscrowd", 0):
                yield record, index, annotation


def _first_without(dataset_dicts: Sequence[dict], key: str) -> str | None:
    found = ((r, i) for r, i, annotation in _instances(dataset_dicts) if key not in annotation)
    record, index = next(found, (None, 0))
    return None if record is None else _where(record, index)


def _where(record: dict, index: int) -> str:
    return f"{record.get('file_name', 'an image')}: annotation number {index}"


def _check_masks(dataset_dicts: Sequence[dict], total: int, mask_format: str) -> None:
    if mask_format not in ("polygon", "bitmask"):
        raise ValueError(f"INPUT.MASK_FORMAT is {mask_format!r}; use 'polygon' or 'bitmask'")
    without = sum("segmentation" not in a for _, _, a in _instances(dataset_dicts))
    if without:
        raise ValueError(
            f"MODEL.MASK_ON is True, but {without} of the {total} annotations have no "
            f"'segmentation', the first is {_first_without(dataset_dicts, 'segmentation')}; add "
            "masks or set MODEL.MASK_ON (use_instance_mask of the mapper) False"
        )
    if mask_format != "polygon":
        return
    others = [
        _where(record, index)
        for record, index, annotation in _instances(dataset_dicts)
        if not isinstance(annotation["segmentation"], (list, tuple))
    ]
    if others:
        raise ValueError(
            f"INPUT.MASK_FORMAT is 'polygon', but {len(others)} of the {total} masks are RLE or "
            f"bitmaps, the first is {others[0]}; set INPUT.MASK_FORMAT bitmask"
        )


def _check_keypoints(
    dataset_dicts: Sequence[dict], flip_indices: Sequence[int] | np.ndarray | None
) -> None:
    where = _first_without(dataset_dicts, "keypoints")
    if where is not None:
        raise ValueError(
            f"MODEL.KEYPOINT_ON is True, but {where} has no 'keypoints'; give them to all objects, "
            "with visibility 0 where they are not known, or set MODEL.KEYPOINT_ON (use_keypoint of "
            "the mapper) False"
        )
    expected = None if flip_indices is None else len(flip_indices)
    for record, index, annotation in _instances(dataset_dicts):
        count = np.asarray(annotation["keypoints"]).size // 3
        if expected is None:
            expected = count
        if count != expected:
            names = "others" if flip_indices is None else "keypoint_names in the metadata"
            raise ValueError(
                f"{_where(record, index)} has {count} keypoints, but {names} have {expected}; all "
                "objects must have the same number"
            )


def check_image_sizes(dataset_dicts: Sequence[dict], *, tolerant: bool = False) -> None:
    """Compare "height" and "width" with the headers of up to 5000 images, spread evenly.

    Label images must have the size of their images. Files that cannot be read are left to the
    loader, which reports them better.

    Args:
        tolerant: only warn, and only about the first one.
    Raises:
        SizeMismatchError: the size of an image or label image differs.
    """
    sized = [
        record
        for record in dataset_dicts
        if ({"height", "width"} <= record.keys() or "sem_seg_file_name" in record)
        and "file_name" in record
        and find_image_reader(record["file_name"]) is None
        and "://" not in str(record["file_name"])
    ]
    step = max(1, len(sized) / MAX_SIZES_READ)
    sample = [sized[int(position * step)] for position in range(min(len(sized), MAX_SIZES_READ))]
    with ThreadPoolExecutor(8) as threads:  # which mostly wait for a disk or a network
        sizes = list(threads.map(lambda r: _size_or_none(r["file_name"]), sample))
        of_labels = list(threads.map(lambda r: _size_or_none(r.get("sem_seg_file_name")), sample))
    for record, size, label_size in zip(sample, sizes, of_labels, strict=True):
        if size is None:
            continue
        try:
            compare_size(record, *size)
            if label_size is not None:
                check_label_size(record["sem_seg_file_name"], label_size, size)
        except ValueError as error:
            if not tolerant:
                raise
            logger.warning("%s; such images are skipped, as DATALOADER.ON_BAD_SAMPLE says", error)
            return


def _size_or_none(path: str | None) -> tuple[int, int] | None:
    if path is None or not os.path.isfile(path):  # a pipe would be waited for
        return None
    try:
        return read_image_size(path)
    except Exception:  # decoders raise errors of all kinds, and the loader reports them better
        return None
