"""Every config under `configs/` against the resolved values that detectron2 gives."""

import gzip
from pathlib import Path

import pytest
import yaml

from d2lite.config import CfgNode, get_cfg
from tests.golden import REFERENCE

CONFIGS = Path(__file__).parents[1] / "configs"
ZOO = yaml.safe_load(gzip.decompress((REFERENCE / "zoo_configs.yaml.gz").read_bytes()))
OWN = sorted({str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml")} - set(ZOO))


def flat(node: CfgNode, prefix: str = "") -> dict:
    values = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            values.update(flat(value, f"{prefix}{key}."))
        else:
            values[prefix + key] = value
    return values


def plain(value):
    """Tuples as lists, as yaml stores them."""
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def load(name: str) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / name))
    return cfg


@pytest.mark.parametrize("name", ZOO)
def test_resolved_values_equal_detectron2(name):
    defaults, got = flat(get_cfg()), flat(load(name))
    assert got.keys() == defaults.keys()
    differing = {k: plain(v) for k, v in got.items() if plain(v) != plain(defaults[k])}
    assert differing == ZOO[name]["diff_from_defaults"]
    for key, value in got.items():
        if defaults[key] is not None:
            assert type(value) is type(defaults[key]), f"{key} has changed its type"


@pytest.mark.parametrize("name", ZOO)
def test_base_and_version_are_those_of_detectron2(name):
    raw = yaml.safe_load((CONFIGS / name).read_text())
    assert raw.get("_BASE_") == ZOO[name]["_BASE_"]
    assert raw.get("VERSION") == ZOO[name]["VERSION_in_file"]


@pytest.mark.parametrize("name", ZOO)
def test_file_holds_only_what_differs_from_its_base(name):
    raw = yaml.safe_load((CONFIGS / name).read_text())
    base = raw.pop("_BASE_", None)
    raw.pop("VERSION", None)
    inherited = flat(load(str(Path(name).parent / base)) if base else get_cfg())
    repeated = [k for k, v in flat(CfgNode(raw)).items() if plain(inherited[k]) == plain(v)]
    assert not repeated


@pytest.mark.parametrize("name", OWN)
def test_own_configs_have_only_keys_of_the_defaults_and_their_types(name):
    defaults, got = flat(get_cfg()), flat(load(name))
    assert got.keys() == defaults.keys()
    for key, value in got.items():
        if defaults[key] is not None:
            assert type(value) is type(defaults[key]), f"{key} has changed its type"


def test_own_configs_are_there():
    blood_cells = {f"BCCD/{name}_R_18_FPN.yaml" for name in ("faster_rcnn", "cascade_rcnn")}
    assert {"quick_start.yaml", *blood_cells} <= set(OWN)
