"""COCO's JSON formats: ground truth as a COCO object; detections to results and back."""

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
from d2lite.structures import Boxes, BoxMode, Instances, RotatedBoxes

# COCO's keypoints are pixel indices; ours are coordinates, 0.5 for the center of pixel 0.
_PIXEL_MIDDLE = (0.5, 0.5, 0.0)


def coco_api(dataset: dict[str, list[dict]]) -> COCO:
    """Return a COCO object from the content of a COCO file."""
    api = COCO()
    api.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        api.createIndex()
    return api


def load_coco_api(dataset_name: str) -> COCO:
    """Return the ground truth of a registered dataset, its dataset dicts, as a COCO object.

    It has no "annotations" if the dicts have none. If some objects have keypoints, all do.
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
    """Return the "image_id" of a model's input; raise a ValueError if it has none."""
    if "image_id" not in inp:
        raise ValueError(
            f"{inp.get('file_name', 'an input')} has no 'image_id', by which predictions are "
            "assigned; get_detection_dataset_dicts adds one where a dataset has none"
        )
    return inp["image_id"]


def instances_to_coco_json(instances: Instances, img_id: int) -> list[dict]:
    """Return the detections of one image in COCO's format of results.

    Args:
        instances: N detections on the CPU, with `pred_boxes` (XYXY or rotated), `scores`,
            `pred_classes` and optionally `pred_masks` (N, H, W) and `pred_keypoints` (N, K, 3).
        img_id: `image_id` of the results.

    Returns:
        N dicts; `category_id` is the class index, not yet the dataset's id. `bbox` is (x, y, width,
        height), or the five numbers of a rotated box.
    """
    if len(instances) == 0:
        return []
    boxes = instances.pred_boxes
    boxes = getattr(boxes, "tensor", boxes).float()
    if boxes.shape[1] == 4:
        boxes = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    columns = {
        "category_id": instances.pred_classes.tolist(),
        "bbox": boxes.tolist(),
        "score": instances.scores.tolist(),
    }
    if instances.has("pred_masks"):
        columns["segmentation"] = encode_masks(instances.pred_masks)
    if instances.has("pred_keypoints"):
        shift = instances.pred_keypoints.new_tensor(_PIXEL_MIDDLE)
        columns["keypoints"] = (instances.pred_keypoints - shift).flatten(1).tolist()
    rows = zip(*columns.values(), strict=True)
    return [{"image_id": img_id, **dict(zip(columns, row, strict=True))} for row in rows]


def coco_json_to_instances(
    results: list[dict], image_size: tuple[int, int], to_index: dict[int, int]
) -> Instances:
    """Return results of one image in COCO's format as detections; see `instances_to_coco_json`.

    Args:
        results: as in a results file; masks and keypoints are used if all results have them.
        image_size: (H, W).
        to_index: class index by `category_id`.

    Raises:
        ValueError: the category of a result has no class.
    """
    for row in results:
        if row["category_id"] not in to_index:
            raise ValueError(
                f"image {row['image_id']}: category_id {row['category_id']} is not one of the "
                f"dataset's, which has {sorted(to_index)}"
            )
    instances = Instances(image_size)
    instances.scores = torch.tensor([row["score"] for row in results])
    instances.pred_classes = torch.tensor([to_index[row["category_id"]] for row in results]).long()
    boxes = torch.tensor([row["bbox"] for row in results], dtype=torch.float32)
    if boxes.shape[-1] == 5:
        instances.pred_boxes = RotatedBoxes(boxes)
    else:
        boxes = BoxMode.convert(boxes.reshape(-1, 4), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        instances.pred_boxes = Boxes(boxes)
    if results and all("segmentation" in row for row in results):
        masks = [mask_util.decode(row["segmentation"]) for row in results]
        instances.pred_masks = torch.from_numpy(np.stack(masks))
    if results and all("keypoints" in row for row in results):
        points = torch.tensor([row["keypoints"] for row in results]).float()
        points = points.reshape(len(results), -1, 3)
        instances.pred_keypoints = points + points.new_tensor(_PIXEL_MIDDLE)
    return instances


def encode_masks(masks) -> list[dict]:
    """Encode (N, H, W) binary masks, BitMasks or RLE dicts as N RLE dicts that json can store."""
    if isinstance(masks, list):
        return masks
    masks = getattr(masks, "tensor", masks)
    bits = np.asarray(torch.as_tensor(masks)).astype(np.uint8)
    rles = [mask_util.encode(np.asfortranarray(mask)) for mask in bits]
    return [{"size": rle["size"], "counts": rle["counts"].decode("utf-8")} for rle in rles]
