import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from d2lite import model_zoo
from d2lite.config import CfgNode
from tests.golden import REFERENCE

ROOT = Path(__file__).parents[2]
URLS = yaml.safe_load((REFERENCE / "model_zoo_urls.yaml").read_text())
SUFFIXES = URLS["checkpoint_suffix_by_config"]

TINY_YAML = """
_BASE_: {base}
MODEL:
  WEIGHTS: "{weights}"
  DEVICE: cpu
  ROI_HEADS:
    NUM_CLASSES: 2
  ROI_BOX_HEAD:
    FC_DIM: 8
  FPN:
    OUT_CHANNELS: 8
  RPN:
    CONV_DIMS: [8]
"""

TINY_PY = """
from torch import nn
from d2lite.config import LazyCall as L

model = L(nn.Linear)(in_features=2, out_features=1)
train = dict(init_checkpoint="{weights}")
"""


@pytest.mark.parametrize("ending", [".yaml", ".py"])
def test_every_released_model_has_its_address(ending):
    for name, suffix in SUFFIXES.items():
        want = f"{URLS['url_prefix']}{name}/{suffix}"
        assert model_zoo.get_checkpoint_url(name + ending) == want


def test_config_without_released_weights_is_told_with_near_names():
    with pytest.raises(RuntimeError, match=r"Did you mean '.*mask_rcnn_R_50_FPN_1x'"):
        model_zoo.get_checkpoint_url("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_2x.yaml")


def test_unknown_config_is_told_with_near_names():
    with pytest.raises(RuntimeError, match=r"Did you mean 'COCO-Detection/retinanet_R_50_FPN_1x\."):
        model_zoo.get_config_file("COCO-Detection/retinanet_R50_FPN_1x.yaml")


def test_config_starts_from_imagenet_or_from_the_trained_model():
    name = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
    cfg = model_zoo.get_config(name)
    assert isinstance(cfg, CfgNode) and cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
    assert cfg.MODEL.WEIGHTS == "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    assert model_zoo.get_config(name, trained=True).MODEL.WEIGHTS.endswith("bfca0b.pkl")


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A zoo with one tiny model in each form, and their weights in tmp_path."""

    def config_file(name):
        path, weights = tmp_path / name, tmp_path / (name + ".pth")
        text = TINY_YAML if name.endswith(".yaml") else TINY_PY
        base = ROOT / "configs" / "Base-R18-FPN-small.yaml"
        weights = weights if weights.exists() else ""
        path.write_text(text.format(base=base, weights=weights))
        return str(path)

    monkeypatch.setattr(model_zoo.model_zoo, "get_config_file", config_file)
    monkeypatch.setattr(
        model_zoo.model_zoo, "get_checkpoint_url", lambda name: str(tmp_path / "trained.pth")
    )
    return tmp_path


@pytest.mark.parametrize("name", ["tiny.yaml", "tiny.py"])
@pytest.mark.parametrize("trained", [False, True])
def test_model_has_the_weights_of_its_config(zoo, name, trained):
    weights = {k: torch.full_like(v, 2) for k, v in model_zoo.get(name).state_dict().items()}
    torch.save(weights, zoo / ("trained.pth" if trained else f"{name}.pth"))
    model = model_zoo.get(name, trained=trained, device="cpu")
    assert model.training
    assert all(value.eq(2).all() for value in model.state_dict().values())


def test_lazy_config_has_the_trained_model_as_its_start(zoo):
    cfg = model_zoo.get_config("tiny.py", trained=True)
    assert cfg.train.init_checkpoint == str(zoo / "trained.pth")


def test_device_is_chosen(zoo):
    assert next(model_zoo.get("tiny.py", device="meta").parameters()).is_meta


def test_installed_package_has_the_configs(tmp_path):
    pytest.importorskip("setuptools")
    source, target = tmp_path / "source", tmp_path / "installed"
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("d2lite", "configs"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    for file in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / file, source)
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(target)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    installed = target / "d2lite" / "model_zoo" / "configs"
    assert names_below(installed) == names_below(ROOT / "configs")

    code = (
        "from d2lite import model_zoo; "
        "print(model_zoo.get_config_file('COCO-Detection/retinanet_R_50_FPN_1x.yaml'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    printed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert Path(printed.strip()).is_relative_to(installed)


def names_below(folder: Path) -> set[str]:
    paths = (p for p in folder.rglob("*") if p.suffix in (".yaml", ".py"))
    return {str(path.relative_to(folder)) for path in paths}
