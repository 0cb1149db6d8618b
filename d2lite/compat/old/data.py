"""Private helpers of detectron2's datasets and images."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from d2lite.compat.old.iterable_data import _share_of_worker
from d2lite.data.datasets import builtin, cityscapes
from d2lite.data.datasets.builtin_meta import get_builtin_metadata
from d2lite.data.datasets.lvis import get_lvis_instances_meta
from d2lite.data.detection_utils import get_bbox
from d2lite.data.image_io import _EXIF_ORIENTATION
from d2lite.data.transforms import CropTransform
from d2lite.data.transforms.augmentation import Augmentation, _arguments_for, _check_image
from d2lite.utils.errors import ArgumentError

_root = builtin.datasets_root()

# Kind of metadata -> name -> (image folder, annotation file), relative to the root of the datasets.
_PREDEFINED_SPLITS_COCO = {
    kind: {
        name: (f"coco/{images}", f"coco/annotations/{annotations}")
        for name, (images, annotations) in splits.items()
    }
    for kind, splits in builtin._COCO_SPLITS.items()
}
# Name -> (folder of the panoptic images, annotation file, folder of the semantic images).
_PREDEFINED_SPLITS_COCO_PANOPTIC = {
    f"coco_2017_{split.replace('2017', '')}_panoptic": (
        f"coco/panoptic_{split}",
        f"coco/annotations/panoptic_{split}.json",
        f"coco/panoptic_stuff_{split}",
    )
    for split in builtin._COCO_PANOPTIC_SPLITS
}


_PREDEFINED_SPLITS_LVIS: dict[str, dict[str, tuple[str, str]]] = {}
for _name, _json_file in builtin._LVIS_SPLITS.items():
    _kind = "lvis_v1" if "v1" in _name else "lvis_v0.5"
    if "cocofied" in _name:
        _kind += "_cocofied"
    _PREDEFINED_SPLITS_LVIS.setdefault(_kind, {})[_name] = (
        "coco/",
        f"lvis/{_json_file}",
    )

_RAW_CITYSCAPES_SPLITS = {
    f"cityscapes_fine_{{task}}_{split}": (
        f"cityscapes/leftImg8bit/{split}/",
        f"cityscapes/gtFine/{split}/",
    )
    for split in ("train", "val", "test")
}


def _get_builtin_metadata(dataset_name: str) -> dict[str, Any]:
    """Return `get_builtin_metadata` of a kind; the parameter has detectron2's name."""
    return get_builtin_metadata(dataset_name)


def _get_lvis_instances_meta_v0_5() -> dict[str, Any]:
    """Return the classes of LVIS v0.5."""
    return get_lvis_instances_meta("lvis_v0.5")


def _get_lvis_instances_meta_v1() -> dict[str, Any]:
    """Return the classes of LVIS v1 and their image counts."""
    return get_lvis_instances_meta("lvis_v1")


def _get_cityscapes_files(image_dir: str, gt_dir: str) -> list[tuple[str, str, str, str]]:
    """Return the image, instance id, label id and polygon file of every image."""
    endings = ("instanceIds.png", "labelIds.png", "polygons.json")
    return [
        (image, *(cityscapes._label_file(gt_dir, city, image, ending) for ending in endings))
        for city, image in cityscapes.list_images(image_dir)
    ]


def _cityscapes_files_to_dict(
    files: tuple[str, str, str, str], from_json: bool, to_polygons: bool
) -> dict[str, Any]:
    """Read one element of `_get_cityscapes_files` as a dataset dict."""
    image_file, id_file, _, json_file = files
    if from_json:
        return cityscapes._record_from_json((image_file, json_file))
    return cityscapes._record_from_ids((image_file, id_file), to_polygons=to_polygons)


_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Rotate a Pillow image according to its EXIF orientation, if it has one."""
    if not hasattr(image, "getexif"):
        return image
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # an image is usable without its EXIF data
        return image
    method = _TRANSPOSE_OF_ORIENTATION.get(orientation)
    return image if method is None else image.transpose(method)


def _check_img_dtype(img: np.ndarray) -> None:
    """Raise an error unless `img` is an image that augmentations accept."""
    _check_image(img)


def _get_aug_input_args(aug: Augmentation, aug_input: Any) -> list[Any]:
    """Return the attributes of the input that `aug.get_transform` takes, in order."""
    return _arguments_for(aug, aug_input)


def _shard_iterator_dataloader_worker(iterable: Iterable, chunk_size: int = 1) -> Iterator:
    """Return this loader worker's share of an iterable, in chunks of `chunk_size` items."""
    return _share_of_worker(iterable, chunk_size)


def gen_crop_transform_with_instance(
    crop_size: tuple[int, int], image_size: tuple[int, int], instance: dict
) -> CropTransform:
    """Return a random crop that contains the center of an object.

    Args:
        crop_size: (h, w) in pixels; limited to the size of the image.
        image_size: (h, w).
        instance: annotation with "bbox" and "bbox_mode".
    """
    size = np.minimum(np.asarray(crop_size, dtype=np.int64), image_size)
    x0, y0, x1, y1 = get_bbox(instance)
    center = np.array([(y0 + y1) / 2, (x0 + x1) / 2])
    if (center < 0).any() or (center > np.asarray(image_size)).any():
        raise ArgumentError(
            f"box {[x0, y0, x1, y1]} has its center outside of the image of size {image_size}"
        )
    lowest = np.maximum(np.floor(center).astype(np.int64) - size, 0)
    highest = np.maximum(np.asarray(image_size) - size, 0)
    highest = np.minimum(highest, np.ceil(center).astype(np.int64))
    lowest = np.minimum(lowest, highest)
    top, left = (int(np.random.randint(a, b + 1)) for a, b in zip(lowest, highest, strict=True))
    return CropTransform(left, top, int(size[1]), int(size[0]))
