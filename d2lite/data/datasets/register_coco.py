"""Where detectron2 once had these two functions; kept for imports."""

from d2lite.data.datasets.coco import register_coco_instances as register_coco_instances
from d2lite.data.datasets.coco_panoptic import (
    register_coco_panoptic_separated as register_coco_panoptic_separated,
)
