"""Between datasets and predictions of d2lite and those of the COCO json format."""

import contextlib
import io
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from d2lite.data.catalog import MetadataCatalog
from d2lite.data.datasets.coco_export import coco_table
from d2lite.data.ground_truth import load_ground_truth
from d2lite.structures import Boxes, BoxMode, Instances


def coco_api(dataset: dict[str, list[dict]]) -> COCO:
    """A COCO object of what would be in a COCO file."""
    api = COCO()
    api.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        api.createIndex()
    return api


def load_coco_api(dataset_name: str) -> COCO:
    """The ground truth of a registered dataset as a COCO object, made from its dicts.

    It has no "annotations" where the dicts have none. Where some objects have keypoints, all do.
    """
    records = load_ground_truth(dataset_name)
    dataset = coco_table(records, MetadataCatalog.get(dataset_name))
    annotations = dataset["annotations"]
    length = max((len(row.get("keypoints", ())) for row in annotations), default=0)
    for row in annotations:
        if length and "keypoints" not in row:
            row.update(keypoints=[0] * length, num_keypoints=0)
    if not annotations:
        del dataset["annotations"]
    return coco_api(dataset)


def image_id_of(inp: dict) -> Any:
    """The "image_id" of a model's input; ValueError where it has none."""
    if "image_id" not in inp:
        raise ValueError(
            f"{inp.get('file_name', 'an input')} has no 'image_id', by which predictions are "
            "assigned; get_detection_dataset_dicts adds one where a dataset has none"
        )
    return inp["image_id"]


def instances_to_coco_json(instances: Instances, img_id: int) -> list[dict]:
    """Detections of one image in COCO's format of results.

    Args:
        instances: N detections on the CPU, with `pred_boxes` (XYXY), `scores`, `pred_classes` and
            optionally `pred_masks` (N, H, W) and `pred_keypoints` (N, K, 3).
        img_id: what the results get as `image_id`.
    Returns:
        N dicts; `category_id` is the class index, not yet the dataset's id.
    """
    if len(instances) == 0:
        return []
    boxes = instances.pred_boxes
    boxes = boxes.tensor if isinstance(boxes, Boxes) else boxes
    boxes = BoxMode.convert(boxes.float(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    columns = {
        "category_id": instances.pred_classes.tolist(),
        "bbox": boxes.tolist(),
        "score": instances.scores.tolist(),
    }
    if instances.has("pred_masks"):
        columns["segmentation"] = encode_masks(instances.pred_masks)
    if instances.has("pred_keypoints"):
        # COCO counts pixels, we measure coordinates: the middle of pixel 0 is at 0.5.
        shift = instances.pred_keypoints.new_tensor([0.5, 0.5, 0.0])
        columns["keypoints"] = (instances.pred_keypoints - shift).flatten(1).tolist()
    rows = zip(*columns.values(), strict=True)
    return [{"image_id": img_id, **dict(zip(columns, row, strict=True))} for row in rows]


def encode_masks(masks) -> list[dict]:
    """(N, H, W) binary masks, BitMasks or RLE dicts, as N RLE dicts that json can hold."""
    if isinstance(masks, list):
        return masks
    masks = getattr(masks, "tensor", masks)
    bits = np.asarray(torch.as_tensor(masks)).astype(np.uint8)
    rles = [mask_util.encode(np.asfortranarray(mask)) for mask in bits]
    return [{"size": rle["size"], "counts": rle["counts"].decode("utf-8")} for rle in rles]
