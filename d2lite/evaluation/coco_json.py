"""Between data sets and predictions of d2lite and those of the COCO json format."""

import contextlib
import io

import numpy as np
import torch
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.structures import Boxes, BoxMode, Instances
from d2lite.utils.file_io import PathManager


def load_coco_api(dataset_name: str) -> COCO:
    """The ground truth of a data set as a COCO object.

    A data set without a `json_file` in its metadata is converted in memory, so that it is always
    the one now registered that is evaluated.
    """
    json_file = getattr(MetadataCatalog.get(dataset_name), "json_file", None)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        if json_file is not None:
            return COCO(PathManager.get_local_path(json_file))
        from d2lite.data.datasets.coco import convert_to_coco_dict

        api = COCO()
        api.dataset = convert_to_coco_dict(dataset_name)
        api.createIndex()
    return api


def metadata_with_classes(dataset_name: str):
    """The metadata of a data set; loads the set when its classes only become known that way."""
    metadata = MetadataCatalog.get(dataset_name)
    if not hasattr(metadata, "thing_classes"):
        DatasetCatalog.get(dataset_name)
    return MetadataCatalog.get(dataset_name)


def instances_to_coco_json(instances: Instances, img_id: int) -> list[dict]:
    """Detections of one image in COCO's format of results.

    Args:
        instances: N detections on the CPU, with `pred_boxes` (XYXY), `scores`, `pred_classes` and
            optionally `pred_masks` (N, H, W) and `pred_keypoints` (N, K, 3).
        img_id: what the results get as `image_id`.
    Returns:
        N dicts; `category_id` is the class index, not yet the data set's id.
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
    """(N, H, W) binary masks, or BitMasks, as N RLE dicts that json can hold."""
    masks = getattr(masks, "tensor", masks)
    bits = np.asarray(torch.as_tensor(masks)).astype(np.uint8)
    rles = [mask_util.encode(np.asfortranarray(mask)) for mask in bits]
    return [{"size": rle["size"], "counts": rle["counts"].decode("utf-8")} for rle in rles]
