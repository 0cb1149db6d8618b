"""Counts that can be worked out, and a command line that takes its words in any order."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from d2lite.config import get_cfg
from d2lite.modeling import META_ARCH_REGISTRY

TOOL = Path(__file__).parents[2] / "tools" / "analyze_model.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("analyze_model", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@META_ARCH_REGISTRY.register()
class OneConvolution(nn.Module):
    """3 to 4 channels, 3 x 3: 108 weights; 108 multiply-adds and 4 values at every pixel."""

    def __init__(self, cfg):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)

    def forward(self, inputs):
        return [{"sem_seg": self.conv(x["image"].float()[None])[0]} for x in inputs]


OVERRIDES = ["MODEL.META_ARCHITECTURE", "OneConvolution", "MODEL.DEVICE", "cpu"]
OVERRIDES += ["INPUT.MIN_SIZE_TEST", "60"]
PIXELS = 60 * 80


def figure(text: str, name: str) -> float:
    return float(re.search(rf"{name} on 1 image\(s\): ([\d.]+)", text)[1])


def test_figures_worked_by_hand(tool, capsys):
    tool.main(["--tasks", "parameter", "flop", "activation", "structure", *OVERRIDES])
    printed = capsys.readouterr().out
    assert "0.00 million parameters" in printed and "(4, 3, 3, 3)" in printed
    assert "image of 60 x 80" in printed
    assert figure(printed, "Million activations") == pytest.approx(4 * PIXELS / 1e6, abs=0.01)
    assert "Conv2d(3, 4, kernel_size=(3, 3)" in printed


def test_operations(tool, capsys):
    tool.main(["--tasks", "flop", "MODEL.META_ARCHITECTURE", "OneConvolution",
               "MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "600"])  # fmt: skip
    assert figure(capsys.readouterr().out, "GFLOPs") == pytest.approx(
        600 * 800 * 108 / 1e9, abs=0.01
    )


def test_random_image_has_the_size_of_tests(tool):
    cfg = get_cfg()
    assert tool.random_input(cfg)["image"].shape == (3, 800, 1067)
    cfg.INPUT.MAX_SIZE_TEST = 400
    assert max(tool.random_input(cfg)["image"].shape) <= 400
    assert tool.random_input(cfg)["image"].dtype == torch.uint8


def test_images_of_the_test_set(tool, capsys):
    tool.main(["--tasks", "flop", "-n", "3", *OVERRIDES, "DATASETS.TEST", "('shapes_val',)"])
    assert re.search(r"GFLOPs on 3 image\(s\)", capsys.readouterr().out)


@pytest.mark.parametrize(
    "args, message",
    [
        (["--tasks", "flops"], "'flops' is not one of parameter, flop"),
        (["--tasks", "flop", "-n", "2", *OVERRIDES], "DATASETS.TEST, which is empty"),
    ],
)
def test_mistakes_are_one_clear_line(tool, capsys, args, message):
    with pytest.raises(SystemExit):
        tool.main(args)
    assert message in capsys.readouterr().err


def test_open_class_counts_are_those_of_the_data(tool, capsys):
    config = TOOL.parents[1] / "configs" / "quick_start.yaml"
    tool.main(["--tasks", "structure", "--config-file", str(config), "MODEL.DEVICE", "cpu"])
    assert "(cls_score): Linear(in_features=256, out_features=7" in capsys.readouterr().out
