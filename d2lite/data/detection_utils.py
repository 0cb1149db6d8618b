"""Common steps of a dataset mapper: read an image, transform its annotations, make Instances."""

import logging
from collections.abc import Sequence

import numpy as np
import pycocotools.mask as mask_util
import torch
from fvcore.transforms.transform import Transform, TransformList

from d2lite.data.augmentation import build_augmentation as build_augmentation
from d2lite.data.catalog import MetadataCatalog
from d2lite.data.image_io import (
    ImageReadError as ImageReadError,
    SizeMismatchError as SizeMismatchError,
    check_image_size as check_image_size,
    convert_image_to_rgb as convert_image_to_rgb,
    convert_PIL_to_numpy as convert_PIL_to_numpy,
    read_image as read_image,
)
from d2lite.data.transforms.transform import is_mirrored
from d2lite.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    Instances,
    Keypoints,
    PolygonMasks,
    RotatedBoxes,
    polygons_to_bitmask,
)
from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import did_you_mean

logger = logging.getLogger(__name__)


def get_bbox(annotation: dict) -> Sequence[float]:
    """Return the XYXY box of an annotation with "bbox" and "bbox_mode", in the type of "bbox"."""
    return BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)


def transform_proposals(
    dataset_dict: dict,
    image_shape: tuple[int, int],
    transforms: Transform,
    *,
    proposal_topk: int,
    min_box_size: float = 0,
) -> None:
    """Turn the precomputed proposals of a dataset dict into Instances, if it has any.

    Args:
        dataset_dict: loses "proposal_boxes", "proposal_objectness_logits", "proposal_bbox_mode" and
            gets "proposals": Instances with `proposal_boxes` and `objectness_logits`.
        image_shape: (h, w) after the transforms; boxes are clipped to it.
        transforms: applied to the boxes.
        proposal_topk: number of proposals kept, taken from the front: they are sorted by score.
        min_box_size: proposals whose sides are not longer than this, in pixels, are dropped.
    """
    if "proposal_boxes" not in dataset_dict:
        return
    mode = dataset_dict.pop("proposal_bbox_mode")
    boxes = BoxMode.convert(dataset_dict.pop("proposal_boxes"), mode, BoxMode.XYXY_ABS)
    boxes = transforms.apply_box(np.array(boxes, dtype=np.float32))
    logits = np.asarray(dataset_dict.pop("proposal_objectness_logits")).astype("float32")
    boxes = Boxes(torch.as_tensor(boxes.astype("float32")))
    boxes.clip(image_shape)
    kept = boxes.nonempty(threshold=min_box_size)
    proposals = Instances(image_shape)
    proposals.proposal_boxes = boxes[kept][:proposal_topk]
    proposals.objectness_logits = torch.as_tensor(logits)[kept][:proposal_topk]
    dataset_dict["proposals"] = proposals


def transform_instance_annotations(
    annotation: dict,
    transforms: Transform | Sequence[Transform],
    image_size: tuple[int, int],
    *,
    keypoint_hflip_indices: np.ndarray | None = None,
) -> dict:
    """Move the box, segmentation and keypoints of one annotation along with its image.

    Args:
        annotation: changed and returned. Its box becomes XYXY, clipped to the image; polygons stay
            polygons (not clipped), an RLE or an (h, w) mask becomes an (h, w) mask.
        transforms: a Transform or several in order.
        image_size: (h, w) after the transforms.
        keypoint_hflip_indices: as returned by `create_keypoint_hflip_indices`.
    Raises:
        ValueError: the segmentation is neither polygons nor an RLE or a mask.
    """
    if isinstance(transforms, (tuple, list)):
        transforms = TransformList(transforms)
    # As in detectron2, boxes and polygons of whole numbers stay whole: resizing drops fractions.
    box = np.array(get_bbox(annotation))
    box = transforms.apply_box(box[None])[0].clip(min=0)
    annotation["bbox"] = np.minimum(box, list(image_size + image_size)[::-1])
    annotation["bbox_mode"] = BoxMode.XYXY_ABS
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list):
        # Copies: transforms change coordinates in place.
        polygons = [np.array(p).reshape(-1, 2) for p in segmentation]
        annotation["segmentation"] = [
            polygon.reshape(-1) for polygon in transforms.apply_polygons(polygons)
        ]
    elif isinstance(segmentation, dict) or getattr(segmentation, "ndim", 0) == 2:
        if isinstance(segmentation, dict):
            segmentation = _decode_rle(segmentation)
        mask = transforms.apply_segmentation(segmentation.astype(np.uint8))
        if tuple(mask.shape[:2]) != tuple(image_size):
            raise ArgumentError(
                f"a mask of size {list(segmentation.shape)} became {mask.shape[:2]} where the "
                f"image became {image_size}: mask and image are of different sizes"
            )
        annotation["segmentation"] = mask
    elif "segmentation" in annotation:
        raise ValueError(
            f"cannot transform a segmentation of type {type(segmentation).__name__}: use polygons, "
            "as list[list[float] or ndarray], a COCO RLE, as a dict, or an (h, w) array"
        )
    if "keypoints" in annotation:
        annotation["keypoints"] = transform_keypoint_annotations(
            annotation["keypoints"], transforms, image_size, keypoint_hflip_indices
        )
    return annotation


def _decode_rle(rle: dict) -> np.ndarray:
    """Return the (h, w) uint8 mask of a COCO RLE, whose counts may be compressed or a list."""
    if isinstance(rle["counts"], list):
        rle = mask_util.frPyObjects(rle, *rle["size"])
    return mask_util.decode(rle)


def transform_keypoint_annotations(
    keypoints: Sequence[float],
    transforms: Transform,
    image_size: tuple[int, int],
    keypoint_hflip_indices: np.ndarray | None = None,
) -> np.ndarray:
    """Move the keypoints of one object along with its image.

    Args:
        keypoints: K*3 numbers, (x, y, visibility) after one another.
        transforms: with an odd number of horizontal flips, left and right points are exchanged.
        image_size: (h, w) after the transforms. Points outside get visibility 0.
        keypoint_hflip_indices: (K,) for each point, the index of the one that takes its place after
            a flip.
    Returns:
        (K, 3); points with visibility 0 are all zero.
    Raises:
        ValueError: the indices are missing for a flip, or their number is wrong.
    """
    keypoints = np.array(keypoints, dtype=np.float64).reshape(-1, 3)
    xy = transforms.apply_coords(keypoints[:, :2])
    inside = ((xy >= 0) & (xy <= np.array(image_size[::-1]))).all(axis=1)
    keypoints[:, :2] = xy
    keypoints[~inside, 2] = 0
    if is_mirrored(transforms):
        if keypoint_hflip_indices is None:
            raise ValueError(
                "keypoints cannot be flipped without keypoint_hflip_indices: set "
                "keypoint_flip_map in the metadata, or INPUT.RANDOM_FLIP to 'none'"
            )
        if len(keypoints) != len(keypoint_hflip_indices):
            raise ValueError(
                f"an annotation has {len(keypoints)} keypoints, but the metadata have "
                f"{len(keypoint_hflip_indices)}"
            )
        keypoints = keypoints[np.asarray(keypoint_hflip_indices)]
    keypoints[keypoints[:, 2] == 0] = 0
    return keypoints


def annotations_to_instances(
    annos: list[dict], image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Make the ground truth of one image for a model.

    Args:
        annos: annotations after `transform_instance_annotations`.
        image_size: (h, w).
        mask_format: "polygon" or "bitmask".
    Returns:
        Instances with `gt_boxes`, `gt_classes`, and, where the annotations have them, `gt_masks`
        (PolygonMasks or BitMasks) and `gt_keypoints`.
    Raises:
        ValueError: the annotations do not match `mask_format`.
    """
    boxes = np.stack([get_bbox(anno) for anno in annos]) if annos else np.zeros((0, 4))
    target = Instances(image_size)
    target.gt_boxes = Boxes(torch.as_tensor(boxes.astype("float32")))
    classes = [int(anno["category_id"]) for anno in annos]
    target.gt_classes = torch.tensor(classes, dtype=torch.int64)
    if _all_have("segmentation", annos):
        segmentations = [anno["segmentation"] for anno in annos]
        target.gt_masks = _make_masks(segmentations, image_size, mask_format)
    if _all_have("keypoints", annos):
        target.gt_keypoints = Keypoints(
            torch.as_tensor(
                np.stack(
                    [
                        np.asarray(anno["keypoints"], dtype="float32").reshape(-1, 3)
                        for anno in annos
                    ]
                )
            )
        )
    return target


def _all_have(key: str, annos: list[dict]) -> bool:
    having = sum(key in anno for anno in annos)
    if 0 < having < len(annos):
        raise ValueError(
            f"{having} of the {len(annos)} annotations of an image have {key!r}: "
            "give it to all of them or to none"
        )
    return having > 0


def _make_masks(
    segmentations: list, image_size: tuple[int, int], mask_format: str
) -> PolygonMasks | BitMasks:
    if mask_format == "polygon":
        if not all(isinstance(one, list) for one in segmentations):
            raise ValueError(
                "INPUT.MASK_FORMAT is 'polygon' but an annotation has an RLE or a bitmap: "
                "use INPUT.MASK_FORMAT 'bitmask'"
            )
        return PolygonMasks(segmentations)
    if mask_format != "bitmask":
        raise ArgumentError(f"INPUT.MASK_FORMAT is {mask_format!r}; use 'polygon' or 'bitmask'")
    masks = []
    for one in segmentations:
        if isinstance(one, list):
            masks.append(polygons_to_bitmask(one, *image_size))
        elif isinstance(one, dict):
            masks.append(_decode_rle(one).astype(bool))
        elif isinstance(one, np.ndarray) and one.ndim == 2:
            masks.append(one.astype(bool))
        else:
            raise ValueError(
                f"cannot make a bitmask of a {type(one).__name__}: use polygons, as "
                "list[list[float] or ndarray], a COCO RLE, as a dict, or an (H, W) array"
            )
    return BitMasks(torch.from_numpy(np.stack(masks)))


def annotations_to_instances_rotated(annos: list[dict], image_size: tuple[int, int]) -> Instances:
    """Make the ground truth of one image with rotated boxes.

    Args:
        annos: each "bbox" is (cx, cy, w, h, degrees counter-clockwise).
        image_size: (h, w).
    Returns:
        Instances with `gt_boxes` (RotatedBoxes, clipped) and `gt_classes`.
    """
    boxes = np.array([anno["bbox"] for anno in annos], dtype=np.float32).reshape(-1, 5)
    target = Instances(image_size)
    target.gt_boxes = RotatedBoxes(torch.from_numpy(boxes))
    target.gt_boxes.clip(image_size)
    classes = [int(anno["category_id"]) for anno in annos]
    target.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return target


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
):
    """Drop ground truth without area.

    Args:
        instances: with `gt_boxes`, and perhaps `gt_masks`.
        by_box: drop those whose box has a side of at most `box_threshold` pixels.
        by_mask: drop those whose mask is empty.
        box_threshold: in pixels.
        return_mask: also return the (M,) bool tensor of those that were kept.
    """
    assert by_box or by_mask, "filter_empty_instances has nothing to filter by"
    tests = []
    if by_box:
        tests.append(instances.gt_boxes.nonempty(threshold=box_threshold))
    if by_mask and instances.has("gt_masks"):
        tests.append(instances.gt_masks.nonempty())
    if not tests:
        tests.append(torch.ones(len(instances), dtype=torch.bool))
    kept = torch.stack(tests).all(dim=0)
    filtered = instances if kept.all() else instances[kept]
    return (filtered, kept) if return_mask else filtered


def create_keypoint_hflip_indices(dataset_names: str | Sequence[str]) -> list[int]:
    """Return, for every keypoint, the index of the one that takes its place in a mirrored image.

    Args:
        dataset_names: datasets with `keypoint_names` and `keypoint_flip_map`, the same in all.
    Raises:
        ValueError: a dataset has no keypoint names, or its flip map does not match them.
    """
    if isinstance(dataset_names, str):
        dataset_names = [dataset_names]
    for name in dataset_names:
        if MetadataCatalog.get(name).get("keypoint_names") is None:
            raise ValueError(
                f"dataset {name!r} has no keypoint names, so keypoints cannot be trained on it; "
                "use one whose metadata has keypoint_names and keypoint_flip_map (a COCO file has "
                "'keypoints' in its category), or set MODEL.KEYPOINT_ON False"
            )
    check_metadata_consistency("keypoint_names", dataset_names)
    check_metadata_consistency("keypoint_flip_map", dataset_names)
    metadata = MetadataCatalog.get(dataset_names[0])
    names = list(metadata.keypoint_names)
    pairs = [tuple(pair) for pair in metadata.keypoint_flip_map]
    in_pairs = [name for pair in pairs for name in pair]
    unknown = [name for name in in_pairs if name not in names]
    repeated = [name for name in in_pairs if in_pairs.count(name) > 1]
    if unknown or repeated or len(set(names)) < len(names):
        problem = (
            f"keypoint_flip_map has {unknown[0]!r}, which is not in keypoint_names"
            f".{did_you_mean(unknown[0], names)}"
            if unknown
            else f"{repeated[0]!r} is in two pairs of keypoint_flip_map"
            if repeated
            else "keypoint_names has a name twice"
        )
        raise ValueError(f"dataset {dataset_names[0]!r}: {problem}")
    partner = {**dict(pairs), **{right: left for left, right in pairs}}
    return [names.index(partner.get(name, name)) for name in names]


def get_fed_loss_cls_weights(
    dataset_names: str | Sequence[str], freq_weight_power: float = 1.0
) -> torch.Tensor:
    """Return the sampling weights of the classes for the federated loss: image counts to a power.

    Args:
        dataset_names: datasets whose metadata have the same `class_image_count`, a list of dicts
            with "id" and "image_count".
        freq_weight_power: the power; 0 weights all classes equally.
    Returns:
        (K,) float weights in the order of class ids.
    """
    if isinstance(dataset_names, str):
        dataset_names = [dataset_names]
    check_metadata_consistency("class_image_count", dataset_names)
    counts = MetadataCatalog.get(dataset_names[0]).class_image_count
    ordered = [entry["image_count"] for entry in sorted(counts, key=lambda entry: entry["id"])]
    return torch.tensor(ordered, dtype=torch.float32) ** freq_weight_power


def check_metadata_consistency(key: str, dataset_names: Sequence[str]) -> None:
    """Check that the metadata attribute `key` is the same in all datasets.

    Raises:
        ValueError: two datasets have different values.
        AttributeError: a dataset does not have `key` at all.
    """
    if len(dataset_names) == 0:
        return
    values = [getattr(MetadataCatalog.get(name), key) for name in dataset_names]
    for name, value in zip(dataset_names, values, strict=True):
        if value != values[0]:
            raise ValueError(
                f"datasets used together must have the same {key!r}: {dataset_names[0]!r} has "
                f"{values[0]!r}, {name!r} has {value!r}. Train on one of them, or give both the "
                "same list"
            )
