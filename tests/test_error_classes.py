"""Errors are of the classes by which programs for detectron2 catch them, where it asserts."""

import numpy as np
import pytest
import torch
from torch import nn

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.config import configurable, downgrade_config, get_cfg, instantiate, upgrade_config
from d2lite.data import (
    DatasetCatalog,
    MetadataCatalog,
    ToIterableDataset,
    build_batch_data_loader,
    transforms as T,
)
from d2lite.data.samplers import TrainingSampler
from d2lite.layers import ASPP, DeformConv, NaiveSyncBatchNorm, get_norm, paste_masks_in_image
from d2lite.modeling.anchor_generator import DefaultAnchorGenerator
from d2lite.modeling.matcher import Matcher
from d2lite.modeling.poolers import ROIPooler
from d2lite.structures import Boxes, ImageList, Instances


def set_a_field_of_another_length():
    Instances((4, 4), a=torch.zeros(2)).b = torch.zeros(3)


def register_twice():
    name = "registered_twice"
    try:
        for _ in range(2):
            DatasetCatalog.register(name, list)
    finally:
        DatasetCatalog.remove(name)


def change_metadata():
    MetadataCatalog.get("changed_metadata").set(a=1).set(a=2)


ASSERTIONS = {
    "field of another length": set_a_field_of_another_length,
    "no image": lambda: ImageList.from_tensors([]),
    "image that is no tensor": lambda: ImageList.from_tensors([np.zeros((3, 4, 4))]),
    "dataset registered twice": register_twice,
    "changed metadata": change_metadata,
    "config file that is not there": lambda: get_cfg().merge_from_file("not_there.yaml"),
    "override of an unknown key": lambda: get_cfg().merge_from_list(["NOT.THERE", 1]),
    "upgrade to an older version": lambda: upgrade_config(get_cfg(), 1),
    "downgrade to a newer version": lambda: downgrade_config(get_cfg(), 3),
    "configurable function": lambda: configurable(len),
    "target that is not callable": lambda: instantiate({"_target_": 5}),
    "probability": lambda: T.RandomApply(T.NoOpTransform(), 1.5),
    "neither augmentation nor transform": lambda: T.AugmentationList([5]),
    "sample style": lambda: T.ResizeShortestEdge(5, sample_style="any"),
    "two edge lengths": lambda: T.ResizeShortestEdge([5, 6, 7]),
    "crop type": lambda: T.RandomCrop("any", (1, 1)),
    "image that is no array": lambda: T.AugInput(torch.zeros(3, 3)),
    "batch size": lambda: build_batch_data_loader([], TrainingSampler(1), -1),
    "sampler": lambda: ToIterableDataset([1], [0]),
    "dilations": lambda: ASPP(2, 2, [1, 2], norm="", activation=None),
    "deformable convolution with bias": lambda: DeformConv(2, 2, 3, bias=True),
    "statistics": lambda: NaiveSyncBatchNorm(2, stats_mode="any"),
    "masks that are not square": lambda: paste_masks_in_image(
        torch.zeros(1, 2, 3), Boxes([[0, 0, 1, 1]]), (4, 4)
    ),
    "anchor offset": lambda: DefaultAnchorGenerator(
        sizes=[[8]], aspect_ratios=[[1.0]], strides=[4], offset=1.0
    ),
    "labels of matches": lambda: Matcher([0.5], [0, 1, 1]),
    "scales of a pooler": lambda: ROIPooler(7, [1 / 4, 1 / 16], 0, "ROIAlignV2"),
}


@pytest.mark.parametrize("fault", ASSERTIONS)
def test_assertions_of_detectron2_can_be_caught_as_such(fault):
    with pytest.raises(AssertionError):
        ASSERTIONS[fault]()


@pytest.mark.parametrize(
    "error, fault",
    [
        (AssertionError, lambda: DetectionCheckpointer(nn.Linear(1, 1)).load("not_there.pth")),
        (FileNotFoundError, lambda: DetectionCheckpointer(nn.Linear(1, 1)).load("not_there.pth")),
        (KeyError, lambda: get_norm("any", 2)),
        (KeyError, lambda: DatasetCatalog.get("not_there")),
        (AttributeError, lambda: MetadataCatalog.get("not_there").thing_classes),
        (FileNotFoundError, lambda: get_cfg().merge_from_file("not_there.yaml")),
        (ValueError, lambda: T.RandomFlip(horizontal=True, vertical=True)),
        (ValueError, lambda: build_batch_data_loader([], TrainingSampler(1), None)),
        (NotImplementedError, lambda: len(Instances((2, 2)))),
    ],
)
def test_other_classes(error, fault):
    with pytest.raises(error):
        fault()
