import dataclasses
import functools
from collections import namedtuple

import pytest
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from d2lite.config import LazyCall as L, instantiate
from d2lite.config.instantiate import dump_dataclass, partial_of

Pair = namedtuple("Pair", "a b")


@dataclasses.dataclass
class Inner:
    x: int = 1


@dataclasses.dataclass
class Outer:
    inner: Inner
    names: list[str] = dataclasses.field(default_factory=list)
    others: list[Inner] = dataclasses.field(default_factory=list)


def maker(second):
    return lambda a: Pair(a, second)


def fail(**kwargs):
    raise RuntimeError("from within")


def test_calls_are_made_from_the_inside_out():
    cfg = L(Pair)(a=L(Pair)(a=1, b=2), b=[L(Pair)(a=3, b=4), 5])
    made = instantiate(cfg)
    assert made.a == Pair(1, 2)
    assert list(made.b) == [Pair(3, 4), 5]


def test_target_may_be_a_path_and_the_config_a_dict():
    layer = instantiate({"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3})
    assert isinstance(layer, nn.Linear) and layer.weight.shape == (3, 2)


def test_config_can_be_used_again():
    cfg = L(nn.Linear)(in_features=2, out_features=3)
    first, second = instantiate(cfg), instantiate(cfg)
    assert first is not second and "_target_" in cfg


def test_references_are_resolved():
    cfg = DictConfig({"width": 5, "head": L(nn.Linear)(in_features="${..width}", out_features=1)})
    assert instantiate(cfg.head).in_features == 5


def test_arguments_stay_configs_when_not_recursive():
    cfg = L(Pair)(a=L(nn.Linear)(in_features=1, out_features=1), b=0, _recursive_=False)
    assert isinstance(instantiate(cfg).a, DictConfig)


@pytest.mark.parametrize("value", [3, "text", None, Pair(1, 2), nn.ReLU])
def test_anything_else_is_returned(value):
    assert instantiate(value) is value


def test_plain_groups_stay_configs():
    cfg = DictConfig({"a": 1})
    assert instantiate(cfg) is cfg
    assert isinstance(instantiate(ListConfig([1, 2])), ListConfig)
    assert instantiate([L(Pair)(a=1, b=2), 3]) == [Pair(1, 2), 3]


def test_calls_in_a_tuple_are_made_like_those_in_a_list():
    for group in ((L(Pair)(a=1, b=2), 5), [L(Pair)(a=1, b=2), 5]):
        made = instantiate(L(Pair)(a=group, b=None)).a
        assert OmegaConf.is_config(made)  # as plain groups are
        assert made[0] == Pair(1, 2) and made[1] == 5
    assert instantiate((L(Pair)(a=1, b=2), 5)) == (Pair(1, 2), 5)


def test_dataclass_in_a_config_comes_out_as_itself():
    cfg = OmegaConf.structured(Inner(x=3))
    assert instantiate(cfg) == Inner(3)


def test_dataclasses_among_the_arguments_come_out_as_themselves():
    nested = Outer(Inner(2), ["a"], [Inner(3)])
    made = instantiate(L(Pair)(a=nested, b=[Inner(4), L(Inner)(x=5)]))
    assert made.a == nested
    assert made.b == [Inner(4), Inner(5)]


def test_target_may_be_a_config_itself():
    assert instantiate(L(L(maker)(second=2))(a=1)) == Pair(1, 2)


def test_wrong_arguments_name_the_callable():
    with pytest.raises(TypeError, match=r"torch\.nn.*Linear.*color"):
        instantiate(L(nn.Linear)(in_features=1, out_features=1, color="red"))


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match="from within"):
        instantiate(L(fail)(a=1))


@pytest.mark.parametrize(
    "target, error, message",
    [
        ("torch.nn.Lineer", ImportError, "Did you mean 'Linear'"),
        ("torch.pi", TypeError, "'torch.pi' is not a class or function"),
        (5, AssertionError, "5 is not"),
    ],
)
def test_target_that_cannot_be_called_is_told(target, error, message):
    with pytest.raises(error, match=message):
        instantiate({"_target_": target})


def test_dataclass_survives_the_way_to_a_config_and_back():
    value = Outer(Inner(2), ["a"], [Inner(3), Inner(4)])
    dumped = dump_dataclass(value)
    assert dumped["inner"] == {"_target_": f"{__name__}.Inner", "x": 2}
    assert instantiate(dumped) == value
    with pytest.raises(TypeError, match="instance of a dataclass"):
        dump_dataclass(Inner)


def test_partial_of_binds_keywords():
    made = instantiate(L(partial_of)(function=torch.full, fill_value=3.0))
    assert isinstance(made, functools.partial)
    assert made((2,)).tolist() == [3.0, 3.0]
