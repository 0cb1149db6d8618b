"""Lazy configs as Python text."""

from torch import nn

from d2lite.config import LazyConfig


def test_config_as_python_text(cfg):
    cfg.model.act = nn.ReLU
    assert LazyConfig.to_py(cfg).splitlines() == [
        "cfg.model = torch.nn.Linear(act=torch.nn.ReLU, in_features=2, out_features=3)",
        'cfg.stages = [{"width": 1}, {"width": 2}]',
        'cfg.train.name = "a"',
        "cfg.train.sizes = [1, 2]",
        "cfg.train.steps = 10",
    ]
    assert LazyConfig.to_py(cfg, prefix="")[:9] == "model = t"


def test_long_lines_of_the_text_are_broken_in_their_brackets():
    cfg = {"m": {"_target_": "a.b", "x": {"one": [10**9] * 5, "two": "it's"}, "y": "z" * 30}}
    assert LazyConfig.to_py(cfg).splitlines() == [
        "cfg.m = a.b(",
        "    x={",
        '        "one": [1000000000, 1000000000, 1000000000, 1000000000, 1000000000],',
        '        "two": "it\'s",',
        "    },",
        f'    y="{"z" * 30}",',
        ")",
    ]
