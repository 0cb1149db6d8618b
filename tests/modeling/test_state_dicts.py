"""Every zoo model has the parameters of detectron2: names, shapes, dtypes, frozen ones, buffers."""

import functools
import gzip
import json

import pytest
import torch
import yaml

from d2lite.config import get_cfg
from d2lite.modeling import build_model
from tests.golden import REFERENCE


@functools.cache
def zoo_configs() -> dict[str, dict]:
    """Differences from the defaults, by config."""
    with gzip.open(REFERENCE / "zoo_configs.yaml.gz") as file:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return {k: v["diff_from_defaults"] for k, v in yaml.load(file, Loader=loader).items()}


@functools.cache
def reference() -> dict:
    """The stored facts: "configs" point to "layouts"."""
    with gzip.open(REFERENCE / "state_dicts.json.gz") as file:
        return json.load(file)


def meta_model(name: str) -> torch.nn.Module:
    """The model of a zoo config, without memory for its weights."""
    cfg = get_cfg()
    cfg.merge_from_list([x for item in zoo_configs()[name].items() for x in item])
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def describe(name: str, x: torch.Tensor) -> tuple:
    return name, tuple(x.shape), str(x.dtype).removeprefix("torch.")


def as_set(entries: list) -> set[tuple]:
    return {(name, tuple(shape), dtype) for name, shape, dtype in entries}


@pytest.mark.parametrize("name", sorted(zoo_configs()))
def test_zoo_model_has_the_state_dict_of_detectron2(name: str):
    entry = reference()["configs"][name]
    layout = reference()["layouts"][entry["layout"]]
    model = meta_model(name)
    assert type(model).__name__ == entry["meta_architecture_class"]
    state = model.state_dict()
    # In order: optimizers in checkpoints know parameters by their position.
    entries = [(key, tuple(shape), dtype) for key, shape, dtype in layout["entries"]]
    assert [describe(k, v) for k, v in state.items()] == entries

    buffers = dict(model.named_buffers())
    assert set(buffers) & set(state) == set(layout["buffers_in_state_dict"])
    outside = {describe(k, v) for k, v in buffers.items() if k not in state}
    assert outside == as_set(layout["buffers_not_in_state_dict"])
    parameters = dict(model.named_parameters())
    frozen = {k for k, p in parameters.items() if not p.requires_grad}
    assert frozen == set(layout["frozen_parameters"])
    assert sum(p.numel() for p in parameters.values()) == entry["num_parameters"]
