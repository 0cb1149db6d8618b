"""What a model stores about its config and its classes."""

from pathlib import PurePosixPath

import numpy as np
import pytest
from omegaconf import DictConfig

import d2lite
from d2lite.config import CfgNode
from d2lite.modeling.meta_arch.origin import ModelOrigin, plain


@pytest.mark.parametrize(
    "value, expected",
    [
        (1.5, 1.5),
        (np.float32(1.5), 1.5),
        (np.array([[1, 2]]), [[1, 2]]),
        (PurePosixPath("a/b"), "a/b"),
        ({1: (None, True), PurePosixPath("k"): [b"x"]}, {1: (None, True), "k": [b"x"]}),
    ],
)
def test_plain_values(value, expected):
    got = plain(value)
    assert got == expected and type(got) is type(expected)


def test_copies_do_not_follow_their_config():
    cfg = CfgNode({"A": {"B": [1, 2]}})
    origin = ModelOrigin(cfg)
    cfg.A.B.append(3)
    assert origin.config == {"A": {"B": [1, 2]}}
    assert type(origin.config["A"]) is dict


@pytest.mark.parametrize(
    "cfg, kind", [(CfgNode({"A": 1}), "yacs"), (DictConfig({"A": 1, "B": "${A}"}), "lazy")]
)
def test_kind_of_the_config(cfg, kind):
    about = ModelOrigin(cfg).about()
    assert (about["config_kind"], about["config"]["A"]) == (kind, 1)
    assert (about["version"], about["metadata"]) == (d2lite.__version__, {})


def test_metadata_are_those_of_the_first_dataset_that_has_classes(register):
    register("test_origin_none", [], json_file="a.json", thing_classes=[])
    register("test_origin_cat", [], json_file="a.json", thing_classes=["cat"], ignore_label=255)
    register("test_origin_dog", [], thing_classes=["dog"])
    names = ("not_registered", "test_origin_none", "test_origin_cat", "test_origin_dog")
    origin = ModelOrigin(CfgNode(), names)
    assert origin.about()["metadata"] == {"thing_classes": ["cat"], "ignore_label": 255}


def test_metadata_are_read_when_they_are_asked_for(register):
    origin = ModelOrigin(CfgNode(), ["test_origin_cat"])
    register("test_origin_cat", [], keypoint_flip_map=[("a", "b")])
    assert origin.about()["metadata"] == {"keypoint_flip_map": [("a", "b")]}
