"""The classes and functions that a yaml lazy config may call."""

import pytest

from d2lite.config import LazyConfig, instantiate
from d2lite.config.errors import ConfigYamlError
from d2lite.config.trusted import TRUSTED_PACKAGES, require_trusted_targets

REFUSED = {
    "shell": "m: {_target_: os.system, command: x}",
    "in a list": "m: [{a: {_target_: subprocess.run, args: [x]}}]",
    "module in a trusted one": "m: {_target_: d2lite.data.common.pickle.loads, data: x}",
    "function in a trusted module": "m: {_target_: d2lite.data.common.logging.basicConfig}",
    "found by locate": "m: {_target_: {_target_: d2lite.utils.registry.locate, name: os.system}}",
    "locate itself": "m: {_target_: d2lite.utils.registry._walk_attributes, found: x}",
    "pickles": "m: {_target_: torch.load, f: x}",
    "cloudpickle": "m: {_target_: d2lite.utils.serialize._wrap_from_bytes, data: x}",
    "a Python config": "m: {_target_: d2lite.config.LazyConfig.load, filename: evil.py}",
    "hub": "m: {_target_: torch.hub.load, repo_or_dir: x, model: y}",
    "private": "m: {_target_: torch.nn.Module.__init__.__globals__}",
    "reference as target": "x: os.system\nm: {_target_: '${x}'}",
    "resolver": "m: '${oc.create:{_target_: os.system, command: x}}'",
    "resolver by name": "x: create\nm: '${oc.${x}:{_target_: os.system}}'",
    "number": "m: {_target_: 5}",
}


@pytest.mark.parametrize("name", REFUSED)
def test_lazy_yaml_calls_only_parts_of_models(tmp_path, name):
    path = tmp_path / "lazy.yaml"
    path.write_text(REFUSED[name])
    with pytest.raises(ConfigYamlError, match=r"lazy\.yaml: m\S* (would call|is) "):
        LazyConfig.load(str(path))
    LazyConfig.load(str(path), trust=True)  # loads, and calls nothing


def test_lazy_yaml_may_name_layers_optimizers_and_references(tmp_path):
    path = tmp_path / "lazy.yaml"
    path.write_text(
        "n: 2\nm: {_target_: torch.nn.Linear, in_features: '${n}', out_features: '${.in_features}'}"
        "\nkind: {_target_: d2lite.utils.registry.locate, name: torch.nn.LayerNorm}"
        "\no: {_target_: torch.optim.SGD, lr: 0.1}"
        "\nb: {_target_: detectron2.modeling.poolers.ROIPooler, a: '${oc.env:HOME,none}'}"
    )
    cfg = LazyConfig.load(str(path))
    assert instantiate(cfg.m).weight.shape == (2, 2)


def test_absent_parts_of_trusted_packages_are_named_with_their_place():
    content = {"m": [{"_target_": "torch.nn.Liner"}]}
    with pytest.raises(ImportError, match=r"lazy\.yaml: m\[0\]: .*torch\.nn\.Liner"):
        require_trusted_targets(content, "lazy.yaml")


def test_programs_can_trust_more_packages(monkeypatch):
    content = {"_target_": "colorsys.rgb_to_hsv"}
    with pytest.raises(ConfigYamlError, match=r"the file would call 'colorsys\.rgb_to_hsv'"):
        require_trusted_targets(content, "lazy.yaml")
    monkeypatch.setattr("d2lite.config.trusted.TRUSTED_PACKAGES", [*TRUSTED_PACKAGES, "colorsys"])
    require_trusted_targets(content, "lazy.yaml")
    with pytest.raises(ConfigYamlError, match="colorsystem"):
        require_trusted_targets({"_target_": "colorsystem.run"}, "lazy.yaml")
