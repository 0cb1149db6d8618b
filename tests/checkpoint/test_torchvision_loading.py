"""Weights of torchvision: their names, their addresses, and loading them."""

import hashlib
import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision import models

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.checkpoint.torchvision_loading import convert_torchvision_names, weights_url
from tests.checkpoint.tiny import detector
from tests.golden import REFERENCE
from tests.serving import served

NAMES = json.loads((REFERENCE / "torchvision_names.json").read_text())


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_torchvision_names(arch):
    want = {k: v for k, v in NAMES[arch].items() if v is not None}
    weights = dict.fromkeys([*want, *NAMES["dropped"]])
    assert list(convert_torchvision_names(weights)) == list(want.values())


def fake_torchvision_resnet() -> dict[str, torch.Tensor]:
    """The names by which a ResNet is known, with values to tell them apart."""
    names = [name for name in NAMES["resnet18"] if not name.endswith("tracked")]
    return {name: torch.full((2,), float(i)) for i, name in enumerate(names)}


class Stem(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.register_buffer(name, torch.zeros(2))


def test_torchvision_resnet_in_a_local_file(tmp_path, caplog):
    weights = fake_torchvision_resnet()
    torch.save(weights, tmp_path / "resnet18.pth")
    norm = detector(norm=Stem("running_mean"))
    model = detector(backbone=detector(bottom_up=detector(stem=detector(conv1=norm))))
    DetectionCheckpointer(model).load(str(tmp_path / "resnet18.pth"))
    got = model.state_dict()["backbone.bottom_up.stem.conv1.norm.running_mean"]
    assert torch.equal(got, weights["bn1.running_mean"])
    assert "INPUT.FORMAT 'RGB'" in caplog.text


def test_model_with_torchvision_names_is_loaded_as_it_is(tmp_path, caplog):
    weights = fake_torchvision_resnet()
    torch.save(weights, tmp_path / "resnet18.pth")
    block = nn.ModuleList([detector(conv1=Stem("weight"))])
    model = detector(layer1=block)
    DetectionCheckpointer(model).load(str(tmp_path / "resnet18.pth"))
    assert torch.equal(
        model.state_dict()["layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"]
    )
    assert "RGB" not in caplog.text


def torchvision_weights(monkeypatch, url):
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(url=url))
    monkeypatch.setattr(models, "get_model_weights", lambda name: weights)


def test_torchvision_address_checks_the_hash(tmp_path, cache, monkeypatch):
    folder = tmp_path / "www"
    folder.mkdir()
    torch.save(fake_torchvision_resnet(), folder / "w.pth")
    digest = hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()[:8]
    good, bad = folder / f"resnet18-{digest}.pth", folder / "resnet18-00000000.pth"
    (folder / "w.pth").rename(good)
    bad.write_bytes(good.read_bytes())
    model = detector(stem=detector(conv1=detector(norm=Stem("running_mean"))))
    with served(folder) as url:
        torchvision_weights(monkeypatch, f"{url}/{bad.name}")
        with pytest.raises(FileNotFoundError, match="hash"):
            DetectionCheckpointer(model).load("torchvision://resnet18")
        torchvision_weights(monkeypatch, f"{url}/{good.name}")
        DetectionCheckpointer(model).load("torchvision://resnet18")
    assert (cache / "torchvision" / good.name).is_file()
    assert not (cache / "torchvision" / bad.name).exists()
    assert model.stem.conv1.norm.running_mean.sum() > 0


def test_torchvision_names_resolve_to_addresses():
    assert weights_url("resnet50").startswith("https://download.pytorch.org/models/resnet50-")
    assert weights_url("ResNet18_Weights.IMAGENET1K_V1").endswith("resnet18-f37072fd.pth")
    with pytest.raises(FileNotFoundError, match="Did you mean 'resnet50'"):
        weights_url("resnet5O")
    with pytest.raises(FileNotFoundError, match=r"no weights called .ResNet18_Weights\.V9"):
        weights_url("ResNet18_Weights.V9")
