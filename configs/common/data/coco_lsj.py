"""COCO with large-scale jitter: images of 0.1 to 2 times 1024 pixels, cropped to 1024 x 1024."""

import d2lite.data.transforms as T
from d2lite.config import LazyCall as L

from .coco import dataloader

_IMAGE_SIZE = 1024

dataloader.train.mapper.augmentations = [
    L(T.RandomFlip)(horizontal=True),
    L(T.ResizeScale)(
        min_scale=0.1, max_scale=2.0, target_height=_IMAGE_SIZE, target_width=_IMAGE_SIZE
    ),
    # The model pads.
    L(T.FixedSizeCrop)(crop_size=(_IMAGE_SIZE, _IMAGE_SIZE), pad=False),
]
dataloader.train.mapper.image_format = "RGB"
dataloader.train.mapper.recompute_boxes = True  # of the parts that cropping leaves
dataloader.train.total_batch_size = 64

dataloader.test.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=_IMAGE_SIZE, max_size=_IMAGE_SIZE)
]
