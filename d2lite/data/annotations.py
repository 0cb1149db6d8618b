"""Check the values of a single annotation, and convert them to one form.

An annotation is a dict with "bbox", "bbox_mode", "category_id", and optionally "iscrowd", "area",
"segmentation" and "keypoints". Other keys, and values that only a custom mapper understands, are
kept.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from d2lite.structures import BoxMode

# Maximum distance of coordinates from the image in pixels, since pycocotools needs memory for each
# pixel of an outline. It is large because tiles of a large image may keep its coordinates.
MAX_DISTANCE = 100_000
MAX_PIXELS = 2**31  # of a mask: pycocotools counts with 32 bits

ImageSize = tuple[int, int]  # height, width


class AnnotationError(ValueError):
    """An invalid value in an annotation; the message says "has KEY VALUE; expected ...".

    The caller, which knows the file and the annotation, adds them to the message.
    """


def normalize_annotation(annotation: dict, size: ImageSize | None) -> dict | str:
    """Check an annotation and convert it to one form.

    Polygons with fewer than three points or an odd number of coordinates are dropped, uncompressed
    RLE is compressed, an empty "segmentation", "keypoints" or "area" is removed, and integral
    floats ("category_id", "iscrowd") become integers.

    Args:
        annotation: not modified.
        size: (height, width) of the image, if known.
    Returns:
        The annotation, unchanged or as a modified copy; or, if it can't be used in training, the
        reason as a string.
    Raises:
        AnnotationError: a value is invalid.
    """
    changes: dict[str, Any] = {}
    for key in ("category_id", "iscrowd"):
        # Fast path for plain integers, since a dataset may have a million annotations.
        if key in annotation and type(annotation[key]) is not int:
            changes[key] = _whole_number(annotation[key], key)
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise AnnotationError(f"has iscrowd {_show(annotation['iscrowd'])}; expected 0 or 1")
    reason = _check_box(annotation, size) if "bbox" in annotation else None
    for key in ("segmentation", "keypoints", "area"):
        if key not in annotation:
            continue
        value = annotation[key]
        if value is None or (isinstance(value, (list, tuple, dict)) and not value):
            changes[key] = _REMOVED
        elif key == "area":
            if not isinstance(value, Real) or not 0 <= value < math.inf:
                raise AnnotationError(
                    f"has area {_show(value)}; expected a number of square pixels"
                )
        elif key == "keypoints":
            _check_keypoints(value)
        else:
            changes[key] = _normalize_segmentation(value, size)
            if isinstance(value, (list, tuple)) and not changes[key]:
                reason = reason or "no polygon of three points or more"
    if reason is not None:
        return reason
    if all(annotation[key] is value for key, value in changes.items()):
        return annotation
    changed = {**annotation, **changes}
    return {key: value for key, value in changed.items() if value is not _REMOVED}


_REMOVED = object()


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _whole_number(value: Any, key: str) -> Any:
    if isinstance(value, (int, np.integer)):
        return value
    if getattr(value, "ndim", None) == 0:  # a tensor or an array of one number
        value = value.item()
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return int(value)
    if isinstance(value, (str, float, np.floating)) or value is None:
        raise AnnotationError(f"has {key} {_show(value)}; expected a whole number")
    return value  # such as several classes, for a custom mapper


def _total(values: Any) -> float:
    """Return the sum of the values; not finite if one of them is not a finite number."""
    try:
        if isinstance(values, np.ndarray):
            return float(values.sum(dtype=np.float64))
        return float(sum(values))
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _limit(size: ImageSize | None) -> float:
    return max(MAX_DISTANCE, 10 * max(size)) if size else MAX_DISTANCE


def _check_box(annotation: dict, size: ImageSize | None) -> str | None:
    """Return why a box must be dropped, or None; raise an error if it is malformed."""
    box, mode = annotation["bbox"], annotation.get("bbox_mode")
    if mode is None:
        return None  # the format is known only to a custom mapper
    numbers = box if type(box) is list else _flat(box)
    if mode not in _BOX_MODES:
        raise AnnotationError(
            f"has bbox_mode {_show(mode)}; expected BoxMode.XYXY_ABS, XYWH_ABS or XYWHA_ABS"
        )
    count = 5 if mode == _XYWHA else 4
    if numbers is None or len(numbers) != count or not math.isfinite(_total(numbers)):
        raise AnnotationError(f"has bbox {_show(box)}; expected {_EXPECTED_BOX[int(mode)]}")
    limit = _limit(size)
    if max(numbers) > limit or min(numbers) < -limit:
        raise AnnotationError(
            f"has bbox {_show(box)}, which is far outside of its image"
            f"{f' of {size[0]} x {size[1]} (height x width)' if size else ''}"
        )
    left, top, right, bottom = numbers[:4]
    if mode == _XYWHA:
        width, height = right, bottom
        reach = math.hypot(width, height) / 2
        left, top, right, bottom = left - reach, top - reach, left + reach, top + reach
    elif mode == _XYWH:
        width, height = right, bottom
        right, bottom = left + width, top + height
    else:
        width, height = right - left, bottom - top
    if width < 0 or height < 0:
        raise AnnotationError(f"has bbox {_show(box)}; expected {_EXPECTED_BOX[int(mode)]}")
    if width == 0 or height == 0:
        return "a box without area"
    if size and (left >= size[1] or top >= size[0] or right <= 0 or bottom <= 0):
        return "a box outside of the image"
    return None


# As plain integers: comparing and looking up enum members is several times slower.
_XYXY, _XYWH, _XYWHA = map(int, (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS))
_BOX_MODES = (_XYXY, _XYWH, _XYWHA)
_EXPECTED_BOX = {
    _XYWH: "[x, y, width, height], finite and with sides of at least 0",
    _XYXY: "[x0, y0, x1, y1], finite, with x0 <= x1 and y0 <= y1",
    _XYWHA: "[center x, center y, width, height, degrees], finite and with sides of at least 0",
}


def _flat(values: Any) -> Sequence[float] | None:
    """Convert a list, tuple, array or tensor to a sequence; None for anything else."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    return values if isinstance(values, (list, tuple)) else None


def _check_keypoints(keypoints: Any) -> None:
    if hasattr(keypoints, "reshape"):  # an array or a tensor
        keypoints = keypoints.reshape(-1)
    numbers = _flat(keypoints)
    if numbers is None or len(numbers) % 3 or not math.isfinite(_total(numbers)):
        raise AnnotationError(
            f"has keypoints {_show(keypoints)}; expected x, y, visibility of each after one "
            "another, finite"
        )
    if max(map(abs, numbers), default=0) > MAX_DISTANCE:
        raise AnnotationError(f"has keypoints {_show(keypoints)}, far outside of its image")


def _normalize_segmentation(segmentation: Any, size: ImageSize | None) -> Any:
    if isinstance(segmentation, dict):
        return _normalize_rle(segmentation, size)
    if isinstance(segmentation, (list, tuple)):
        return _valid_polygons(segmentation, size)
    if isinstance(segmentation, np.ndarray) and segmentation.ndim == 2:
        if size and segmentation.shape != tuple(size):
            raise AnnotationError(
                f"has a mask of {segmentation.shape[0]} x {segmentation.shape[1]}, but its image "
                f"is {size[0]} x {size[1]} (height x width)"
            )
        return segmentation
    raise AnnotationError(
        f"has segmentation {_show(segmentation)}; expected a list of polygons "
        "[x0, y0, x1, y1, ...] or an RLE with 'size' and 'counts'"
    )


def _valid_polygons(polygons: Sequence, size: ImageSize | None) -> Sequence:
    """Return the polygons with three or more points; the same object if these are all."""
    limit = _limit(size)
    valid = True
    for polygon in polygons:
        if not isinstance(polygon, (list, tuple, np.ndarray)):
            hint = "; put the coordinates of a polygon into a list of their own"
            raise AnnotationError(
                f"has segmentation {_show(polygons)}; expected a list of polygons "
                f"[x0, y0, x1, y1, ...]{hint if isinstance(polygon, Real) else ''}"
            )
        if isinstance(polygon, np.ndarray):
            polygon = polygon.reshape(-1)
        if not math.isfinite(_total(polygon)):
            pairs = len(polygon) > 0 and isinstance(polygon[0], (list, tuple, dict))
            raise AnnotationError(
                f"has a polygon {_show(polygon)}; expected finite numbers x0, y0, x1, y1, ..."
                f"{' after one another, not as points of their own' if pairs else ''}"
            )
        if len(polygon) and (max(polygon) > limit or min(polygon) < -limit):
            raise AnnotationError(f"has a polygon {_show(polygon)}, far outside of its image")
        valid &= _is_polygon(polygon)
    return polygons if valid else [p for p in polygons if _is_polygon(p)]


def _is_polygon(polygon: Sequence | np.ndarray) -> bool:
    count = polygon.size if isinstance(polygon, np.ndarray) else len(polygon)
    return count >= 6 and count % 2 == 0


def _normalize_rle(rle: dict, size: ImageSize | None) -> dict:
    """Return the RLE, compressed."""
    shape, counts = _flat(rle.get("size")), rle.get("counts")
    if (
        shape is None
        or len(shape) != 2
        or not all(isinstance(side, Integral) and side > 0 for side in shape)
        or not isinstance(counts, (list, tuple, str, bytes))
    ):
        raise AnnotationError(
            f"has an RLE {_show(rle)}; expected 'size' [height, width] and 'counts', a list of "
            "run lengths or their compressed text"
        )
    if size is not None and tuple(shape) != tuple(size):
        raise AnnotationError(
            f"has an RLE of {shape[0]} x {shape[1]}, but its image is {size[0]} x {size[1]} "
            "(height x width)"
        )
    pixels = math.prod(shape)
    if pixels > MAX_PIXELS:
        raise AnnotationError(f"has an RLE of {shape[0]} x {shape[1]}; no image is that large")
    runs = _run_lengths(counts)
    # Lengths of at most `pixels` each, so that their sum doesn't overflow.
    if runs is None or runs.min(initial=0) < 0 or runs.max(initial=0) > pixels:
        raise AnnotationError(
            f"has an RLE with counts {_show(counts)}; expected run lengths of 0 to {pixels} pixels"
        )
    if runs.sum() != pixels:
        raise AnnotationError(
            f"has an RLE whose counts add up to {runs.sum()} pixels, but its size is "
            f"{shape[0]} x {shape[1]} = {pixels}"
        )
    if isinstance(counts, (str, bytes)):
        return rle
    return mask_util.frPyObjects({"size": list(shape), "counts": runs.tolist()}, *shape)


def _run_lengths(counts: Sequence[int] | str | bytes) -> np.ndarray | None:
    """Return the run lengths of an RLE as int64; None if the counts are not an RLE.

    Compressed counts store 5 bits of a number per character, low bits first, with a continuation
    bit and, in the last character, a sign. From the fourth number on, each is the difference to the
    one two places before (pycocotools' maskApi.c, rleToString).
    """
    if isinstance(counts, (list, tuple)):
        if not all(isinstance(count, Integral) for count in counts):
            return None
        try:
            return np.array(counts, dtype=np.int64)
        except OverflowError:
            return None
    try:
        text = counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError:
        return None
    chars = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if not len(chars) or chars.min() < 0 or chars.max() > 63 or chars[-1] & 32:
        return None
    ends = np.flatnonzero((chars & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 6:  # 35 bits hold any run of a mask
        return None
    shift = 5 * (np.arange(len(chars)) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((chars & 31) << shift, starts)
    negative = (chars[ends] & 16) > 0
    values -= negative.astype(np.int64) << (5 * (ends - starts + 1))
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
