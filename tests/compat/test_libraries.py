"""Libraries that look for detectron2 find the alias, where it is installed."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from d2lite.compat.environment import add_alias

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def run(folder, program):
    """Run a program in a fresh interpreter that has the alias among its packages."""
    add_alias(folder / "packages")
    path = os.pathsep.join([str(ROOT), str(folder / "packages")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def needs(name):
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"needs {name}")


@needs("transformers")
def test_layoutlmv2_of_transformers(tmp_path):
    program = """
        import torch
        from transformers import LayoutLMv2Config, LayoutLMv2ForTokenClassification

        config = LayoutLMv2Config(
            vocab_size=50, hidden_size=48, num_hidden_layers=1, num_attention_heads=4,
            intermediate_size=48, coordinate_size=8, shape_size=8, max_position_embeddings=64,
            image_feature_pool_shape=[7, 7, 256], num_labels=3,
        )
        torch.manual_seed(0)
        model = LayoutLMv2ForTokenClassification(config).eval()
        names = set(model.state_dict())
        backbone = "layoutlmv2.visual.backbone."
        assert names >= {
            backbone + "fpn_lateral2.weight",
            backbone + "fpn_output5.bias",
            backbone + "bottom_up.stem.conv1.norm.running_mean",
            backbone + "bottom_up.res2.0.shortcut.norm.weight",
            backbone + "bottom_up.res4.22.conv3.weight",
        }
        # ResNeXt-101 has 104 convolutions with four buffers of frozen norm each, FPN 8 with bias.
        assert sum(name.startswith(backbone) for name in names) == 104 * 5 + 8 * 2

        corner = torch.randint(0, 500, (1, 6, 2))
        inputs = {
            "input_ids": torch.randint(0, 50, (1, 6)),
            "bbox": torch.cat([corner, corner + 10], dim=-1),
            "image": torch.randint(0, 256, (1, 3, 224, 224)).float(),
        }
        with torch.no_grad():
            logits = model(**inputs).logits
            assert logits.shape == (1, 6, 3) and logits.isfinite().all()
            model.save_pretrained("saved")
            loaded = LayoutLMv2ForTokenClassification.from_pretrained("saved").eval()
            assert torch.equal(loaded(**inputs).logits, logits)
            inputs["image"] = inputs["image"].flip(-1)
            assert not torch.equal(model(**inputs).logits, logits)
        print("done")
    """
    assert run(tmp_path, program) == "done"


@needs("layoutparser")
def test_detectron2_layout_model_of_layoutparser(tmp_path):
    program = """
        import layoutparser
        import numpy as np
        import torch
        from detectron2 import model_zoo
        from detectron2.config import get_cfg
        from detectron2.modeling import build_model

        cfg = get_cfg()
        cfg.merge_from_file(
            model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
        )
        cfg.merge_from_list([
            "MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64,
            "MODEL.FPN.OUT_CHANNELS", 32, "MODEL.ROI_HEADS.NUM_CLASSES", 2,
            "MODEL.ROI_BOX_HEAD.FC_DIM", 32, "INPUT.MIN_SIZE_TEST", 96,
        ])
        torch.manual_seed(0)
        weights = build_model(cfg).state_dict()
        # Every proposal is a table: class 1 gets all of the score.
        weights["roi_heads.box_predictor.cls_score.bias"][:] = torch.tensor([0.0, 20.0, 0.0])
        torch.save({"model": weights}, "weights.pth")
        with open("config.yaml", "w") as file:
            file.write(cfg.dump())

        model = layoutparser.Detectron2LayoutModel(
            "config.yaml", "weights.pth", label_map={0: "Text", 1: "Table"},
            extra_config=["TEST.DETECTIONS_PER_IMAGE", 3],
        )
        page = np.random.RandomState(0).randint(0, 256, (120, 160, 3), dtype=np.uint8)
        layout = model.detect(page)
        assert [block.type for block in layout] == ["Table"] * 3
        assert all(block.score > 0.99 for block in layout)
        assert all(0 <= block.block.x_1 < block.block.x_2 <= 160 for block in layout)
        print("done")
    """
    assert run(tmp_path, program) == "done"
