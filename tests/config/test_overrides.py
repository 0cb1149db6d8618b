"""Overrides of lazy configs."""

import omegaconf
import pytest
from omegaconf import DictConfig

from d2lite.config import LazyConfig, instantiate


@pytest.mark.parametrize(
    "text, value",
    [
        ("20", 20),
        ("1e-3", 0.001),
        ("true", True),
        ("null", None),
        ("", ""),
        ("word", "word"),
        ("'20'", "20"),
        ("[3,4]", [3, 4]),
        ("{a:1,b:{c:x}}", {"a": 1, "b": {"c": "x"}}),
        ("{url:http://x/y}", {"url": "http://x/y"}),
        ("a: b", "a: b"),
        ("x=y", "x=y"),
        ("${stages.0.width}", 1),
    ],
)
def test_override_values(cfg, text, value):
    assert LazyConfig.apply_overrides(cfg, [f"train.steps={text}"]) is cfg
    assert cfg.train.steps == value


def test_override_of_list_entries_and_call_arguments(cfg):
    LazyConfig.apply_overrides(
        cfg, ["stages.1.width=7", "train.sizes[0]=9", "model.in_features=5", "model.bias=false"]
    )
    assert cfg.stages[1].width == 7 and cfg.train.sizes == [9, 2]
    layer = instantiate(cfg.model)
    assert layer.in_features == 5 and layer.bias is None


def test_override_reaches_into_tuples_and_sets_them_as_a_whole():
    cfg = DictConfig({"stages": ({"width": 1}, {"width": 2}), "betas": (0.9, 0.999)})
    LazyConfig.apply_overrides(cfg, ["stages.1.width=7", "betas=[0.8, 0.9]"])
    assert cfg.stages[1].width == 7 and list(cfg.betas) == [0.8, 0.9]


@pytest.mark.skipif(not hasattr(omegaconf, "TupleConfig"), reason="tuples are lists before 2.4")
@pytest.mark.parametrize("override", ["betas.0=0.8", "betas[0]=0.8", "~betas.0"])
def test_override_of_a_part_of_a_tuple_is_refused(override):
    with pytest.raises(ValueError, match=r"betas is a tuple.*betas=\[\.\.\.\]"):
        LazyConfig.apply_overrides(DictConfig({"betas": (0.9, 0.999)}), [override])


def test_keys_are_added_and_removed(cfg):
    LazyConfig.apply_overrides(cfg, ["+train.extra.deep=1", "++new=2", "~train.name", "~stages.0"])
    assert cfg.train.extra.deep == 1 and cfg.new == 2
    assert "name" not in cfg.train and cfg.stages == [{"width": 2}]


@pytest.mark.parametrize(
    "override, error, message",
    [
        (
            "train.stesp=1",
            KeyError,
            r"train has no 'stesp'. Did you mean 'steps'\?.*\+train\.stesp",
        ),
        ("trian.steps=1", KeyError, "the config has no 'trian'. Did you mean 'train'"),
        ("train.name.x=1", KeyError, "train.name is a single value"),
        ("stages.5.width=1", KeyError, "stages has no '5'"),
        ("~train.nothing", KeyError, "nothing"),
        ("~model.bias", KeyError, "bias"),
        ("train.steps", ValueError, "key=value"),
        ("--train.steps=3 4", ValueError, "key=value"),
    ],
)
def test_override_of_what_is_not_there(cfg, override, error, message):
    with pytest.raises(error, match=message):
        LazyConfig.apply_overrides(cfg, [override])
