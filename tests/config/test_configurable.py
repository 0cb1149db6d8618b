import functools

import pytest
from omegaconf import DictConfig

from d2lite.config import CfgNode, configurable, get_cfg, global_cfg, set_global_cfg


class Head:
    @configurable
    def __init__(self, width, *, depth=2, name="head"):
        """Keeps its arguments."""
        self.settings = (width, depth, name)

    @classmethod
    def from_config(cls, cfg, depth_factor=1):
        return {"width": cfg.WIDTH, "depth": cfg.DEPTH * depth_factor}


class WideHead(Head):
    """Inherits the configurable __init__, with a from_config of its own."""

    @classmethod
    def from_config(cls, cfg, **kwargs):
        return {"width": 10 * cfg.WIDTH, **kwargs}


CFG = CfgNode({"WIDTH": 4, "DEPTH": 3})


def build_from(cfg, factor=1):
    return {"size": cfg.WIDTH * factor}


@configurable(from_config=build_from)
def build(size, color="red"):
    return size, color


@pytest.mark.parametrize(
    "args, kwargs, settings",
    [
        ((5,), {}, (5, 2, "head")),
        ((), {"width": 5, "depth": 1}, (5, 1, "head")),
        ((CFG,), {}, (4, 3, "head")),
        ((CFG, 2), {}, (4, 6, "head")),
        ((CFG,), {"depth_factor": 2}, (4, 6, "head")),
        ((), {"cfg": CFG}, (4, 3, "head")),
        ((CFG,), {"name": "x", "width": 7}, (7, 3, "x")),  # explicit ones come first
        ((DictConfig({"WIDTH": 4, "DEPTH": 3}),), {}, (4, 3, "head")),
    ],
)
def test_class_takes_a_config_or_arguments(args, kwargs, settings):
    assert Head(*args, **kwargs).settings == settings


def test_subclass_uses_its_own_from_config():
    assert WideHead(CFG, depth=9).settings == (40, 9, "head")
    assert WideHead(1).settings == (1, 2, "head")


def test_subclass_with_its_own_init_calls_that_of_its_parent():
    class Named(Head):
        @configurable
        def __init__(self, *, title, **kwargs):
            super().__init__(**kwargs)
            self.title = title

        @classmethod
        def from_config(cls, cfg):
            return {**super().from_config(cfg), "title": "T"}

    head = Named(CFG)
    assert (head.title, head.settings) == ("T", (4, 3, "head"))


def test_function_takes_a_config_or_arguments():
    assert build(3) == (3, "red")
    assert build(CFG) == (4, "red")
    assert build(CFG, 2, color="blue") == (8, "blue")
    assert build(cfg=CFG, factor=3) == (12, "red")
    assert build.from_config is build_from


def test_partial_functions_serve_as_from_config():
    doubled = configurable(from_config=functools.partial(build_from, factor=2))(lambda size: size)
    assert doubled(CFG) == 8


def test_docstring_is_kept():
    assert Head.__init__.__doc__ == "Keeps its arguments."


def test_missing_from_config_is_told():
    class Bare:
        @configurable
        def __init__(self, a=1):
            self.a = a

    for argument in (2, CFG):
        with pytest.raises(AttributeError, match=r"Bare.*from_config"):
            Bare(argument)


def test_from_config_must_be_a_classmethod():
    class Wrong:
        @configurable
        def __init__(self, a=1):
            pass

        def from_config(self, cfg):
            return {}

    with pytest.raises(TypeError, match="classmethod"):
        Wrong(CFG)


def test_first_parameter_must_be_cfg():
    function = configurable(from_config=lambda config: {})(lambda: 1)
    with pytest.raises(TypeError, match="'cfg'"):
        function(CFG)


def test_plain_decorator_is_for_init_only():
    with pytest.raises(TypeError, match="__init__"):

        @configurable
        def function(a):
            return a


def test_global_config_is_replaced_in_place():
    cfg = get_cfg()
    cfg.GLOBAL.HACK = 2.0
    set_global_cfg(cfg)
    assert global_cfg.GLOBAL.HACK == 2.0
    set_global_cfg(CfgNode())
    assert global_cfg == {}
