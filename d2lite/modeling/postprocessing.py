"""Scale results from the size of the network's input to the requested size."""

import torch.nn.functional as F
from torch import Tensor

from d2lite.structures import Instances, ROIMasks


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Scale detections from `results.image_size` to the output size and paste their masks.

    Boxes are clipped to the image, and empty ones are dropped.

    Args:
        results: N detections with `pred_boxes` (or `proposal_boxes`), optionally `pred_masks`
            ((N, 1, M, M) probabilities within the boxes, or ROIMasks) and `pred_keypoints`
            ((N, K, 3): x, y, score). As in detectron2, its boxes are scaled and clipped in place.
        output_height, output_width: the requested size in pixels.
        mask_threshold: mask probabilities of at least this value are foreground.

    Returns:
        Instances of the output size; `pred_masks` is an (N, H, W) bool tensor.
    """
    height, width = results.image_size
    scale_x, scale_y = output_width / width, output_height / height
    boxes_name = "pred_boxes" if results.has("pred_boxes") else "proposal_boxes"
    assert results.has(boxes_name), "the detections have neither pred_boxes nor proposal_boxes"

    scaled = Instances((output_height, output_width), **results.get_fields())
    boxes = results.get(boxes_name)
    boxes.scale(scale_x, scale_y)
    boxes.clip(scaled.image_size)
    scaled = scaled[boxes.nonempty()]

    if scaled.has("pred_masks"):
        masks = scaled.pred_masks
        roi_masks = masks if isinstance(masks, ROIMasks) else ROIMasks(masks[:, 0])
        pasted = roi_masks.to_bitmasks(
            scaled.get(boxes_name), output_height, output_width, mask_threshold
        )
        scaled.pred_masks = pasted.tensor
    if scaled.has("pred_keypoints"):
        factors = scaled.pred_keypoints.new_tensor([scale_x, scale_y, 1.0])
        scaled.pred_keypoints = scaled.pred_keypoints * factors
    return scaled


def sem_seg_postprocess(
    result: Tensor, img_size: tuple[int, int], output_height: int, output_width: int
) -> Tensor:
    """Remove the padding of (K, H, W) class scores and resize them bilinearly.

    Args:
        result: scores of K classes for a padded image.
        img_size: (height, width) of the image before padding.

    Returns:
        (K, output_height, output_width) scores.
    """
    unpadded = result[None, :, : img_size[0], : img_size[1]]  # (1, K, H, W)
    size = (output_height, output_width)
    return F.interpolate(unpadded, size=size, mode="bilinear", align_corners=False)[0]
