"""Two images with two objects each, and detections of them."""

import torch

from d2lite.structures import Boxes, BoxMode, Instances

SIZE = (60, 80)
BOXES = [[10.0, 10.0, 40.0, 50.0], [45.0, 5.0, 75.0, 30.0]]


def records():
    """Two images with two objects each, of classes 0 and 1."""
    annotations = [
        {
            "bbox": box,
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": i,
            "iscrowd": 0,
            "keypoints": [box[0] + 5, box[1] + 5, 2, box[2] - 5, box[3] - 5, 2],
            "segmentation": [[box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]]],
        }
        for i, box in enumerate(BOXES)
    ]
    image = {"height": SIZE[0], "width": SIZE[1]}
    return [
        {**image, "image_id": i, "file_name": f"drawn://{i}", "annotations": annotations}
        for i in (5, 9)
    ]


def detections(boxes=BOXES, classes=(0, 1), masks=False, keypoints=False):
    instances = Instances(SIZE)
    instances.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    instances.scores = torch.linspace(0.9, 0.5, len(boxes))
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    if masks:
        instances.pred_masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(instances.pred_masks, boxes, strict=True):
            mask[int(y0) : int(y1), int(x0) : int(x1)] = True
    if keypoints:
        points = [[[b[0] + 5, b[1] + 5, 1], [b[2] - 5, b[3] - 5, 1]] for b in boxes]
        instances.pred_keypoints = torch.tensor(points)
    return instances
