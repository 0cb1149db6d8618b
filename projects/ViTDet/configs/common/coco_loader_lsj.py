"""COCO with large-scale jitter."""

from d2lite import model_zoo

dataloader = model_zoo.get_config("common/data/coco_lsj.py").dataloader
