"""The example works as projects/README.md says: by config alone."""

import argparse
from pathlib import Path

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.engine import DefaultTrainer, config_from_args
from d2lite.modeling import build_backbone
from d2lite.projects import add_projects, available_projects
from d2lite.projects.example_backbone import ExampleBackbone, MixingBlock

CONFIG = str(Path(__file__).parents[1] / "configs/faster_rcnn_example_FPN.yaml")


def make_cfg(*opts):
    args = argparse.Namespace(config_file=CONFIG, opts=["MODEL.DEVICE", "cpu", *map(str, opts)])
    return config_from_args(args)


def test_project_is_found_by_name():
    assert "example_backbone" in available_projects()
    assert not hasattr(get_cfg().MODEL, "EXAMPLE_BACKBONE")
    cfg = get_cfg()
    add_projects(cfg, CONFIG)
    assert cfg.MODEL.EXAMPLE_BACKBONE.NORM == "BN"


@pytest.mark.parametrize(
    "name, expected",
    [
        (
            "build_example_backbone",
            {"res2": (32, 4), "res3": (64, 8), "res4": (128, 16), "res5": (256, 32)},
        ),
        ("build_example_fpn_backbone", {f"p{i}": (64, 2**i) for i in range(2, 7)}),
    ],
)
def test_features_have_the_stated_shapes(name, expected):
    backbone = build_backbone(make_cfg("MODEL.BACKBONE.NAME", name))
    assert {k: (s.channels, s.stride) for k, s in backbone.output_shape().items()} == expected
    features = backbone(torch.zeros(1, 3, 64, 128))
    for feature, (channels, stride) in expected.items():
        assert features[feature].shape == (1, channels, 64 // stride, 128 // stride)


def test_block_without_effect_is_the_identity():
    block = MixingBlock(4, "")
    torch.nn.init.zeros_(block.project.weight)
    torch.nn.init.zeros_(block.project.bias)
    x = torch.rand(1, 4, 5, 5)
    assert torch.equal(block(x), x)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="2 CHANNELS and 1 BLOCKS"):
        ExampleBackbone(3, [8, 16], [1])
    with pytest.raises(ValueError, match=r"has 'res9'; use some of \['res2', 'res3'\]"):
        ExampleBackbone(3, [8, 16], [1, 1], out_features=["res9"])


def test_it_trains_from_the_stock_trainer(tmp_path):
    cfg = make_cfg(
        *("DATASETS.TEST", "()", "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2),
        *("SOLVER.MAX_ITER", 2, "INPUT.MIN_SIZE_TRAIN", "(64,)", "OUTPUT_DIR", tmp_path),
        *("MODEL.EXAMPLE_BACKBONE.CHANNELS", "[8, 8, 8, 8]", "MODEL.FPN.OUT_CHANNELS", 8),
        *("MODEL.RPN.CONV_DIMS", "[8]", "MODEL.ROI_BOX_HEAD.FC_DIM", 16, "SEED", 1),
    )
    trainer = DefaultTrainer(cfg)
    start = {k: v.clone() for k, v in trainer.model.backbone.bottom_up.named_parameters()}
    trainer.train()
    moved = [
        k for k, v in trainer.model.backbone.bottom_up.named_parameters() if not v.equal(start[k])
    ]
    assert {name.split(".")[0] for name in moved} == {"res2", "res3", "res4", "res5"}
    assert (tmp_path / "model_final.pth").exists()
