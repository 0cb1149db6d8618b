"""Our own keys and registered names stay clear of those that projects add; old ones still work."""

import gzip
import json
import logging

import pytest
import yaml
from torch import nn
from torch.optim import SGD

import d2lite.data.augmentation
import d2lite.modeling
import d2lite.tracking  # all registries
from d2lite.config import CfgNode, get_cfg
from d2lite.config.keys import has_key
from d2lite.modeling import BACKBONE_REGISTRY
from d2lite.solver import build_optimizer
from d2lite.utils.registry import Registry
from d2lite.utils.renamed import RENAMED_KEYS, RENAMED_OBJECTS
from tests.golden import REFERENCE

IN_USE = json.loads(gzip.decompress((REFERENCE / "project_keys_in_use.json.gz").read_bytes()))
DEFAULTS = yaml.safe_load((REFERENCE / "config_defaults.yaml").read_text())
REGISTERED = json.loads((REFERENCE / "api.json").read_text())["registries"]


def keys_of(tree, prefix=""):
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")


def test_own_keys_are_not_those_of_projects():
    own = set(keys_of(get_cfg())) - set(keys_of(DEFAULTS))
    assert own and not own & set(IN_USE["keys"])


def test_own_registered_names_are_not_those_of_projects():
    registries = {
        f"{value._name}_REGISTRY": value
        for module in (d2lite.modeling, d2lite.tracking, d2lite.data.augmentation)
        for value in vars(module).values()
        if isinstance(value, Registry)
    }
    assert set(REGISTERED) <= set(registries)
    in_use = {name.partition(":")[2] for name in IN_USE["registered"]}
    for registry_name, registry in registries.items():
        modules = {name: registry.get(name).__module__ for name, _ in registry}
        # Those of projects are registered when a config asks for the project.
        ours = {
            name
            for name, module in modules.items()
            if module.startswith("d2lite.") and not module.startswith("d2lite.projects.")
        }
        own = ours - set(REGISTERED.get(registry_name, {"registered": ()})["registered"])
        assert not own & in_use


def test_old_names_are_gone_and_new_ones_there():
    for old, new in RENAMED_KEYS.items():
        assert has_key(get_cfg(), new) and not has_key(get_cfg(), old)
    for old, new in RENAMED_OBJECTS.items():
        assert new in BACKBONE_REGISTRY and old not in BACKBONE_REGISTRY


OLD_FILE = "SOLVER: {OPTIMIZER: AdamW}\nMODEL: {TIMM: {NAME: resnet18, OUT_INDICES: [1]}}\n"
OLD_WORDS = ["SOLVER.OPTIMIZER", "AdamW", "MODEL.TIMM.NAME", "resnet18"]


def test_old_keys_work_with_a_warning(tmp_path, caplog):
    (tmp_path / "old.yaml").write_text(OLD_FILE)
    from_file, from_words, from_other = get_cfg(), get_cfg(), get_cfg()
    with caplog.at_level(logging.WARNING, logger="d2lite"):
        from_file.merge_from_file(str(tmp_path / "old.yaml"))
        assert "old.yaml: SOLVER.OPTIMIZER is now called SOLVER.OPTIMIZER_NAME" in caplog.text
        from_words.merge_from_list(OLD_WORDS)
        assert "the overrides: MODEL.TIMM is now called MODEL.TIMM_MODEL" in caplog.text
    other = CfgNode(yaml.safe_load(OLD_FILE))
    from_other.merge_from_other_cfg(other)
    assert "OPTIMIZER" in other.SOLVER  # the argument is left as it was
    for cfg in (from_file, from_words, from_other):
        assert cfg.SOLVER.OPTIMIZER_NAME == "AdamW" and "OPTIMIZER" not in cfg.SOLVER
        assert cfg.MODEL.TIMM_MODEL.NAME == "resnet18" and "TIMM" not in cfg.MODEL


def test_keys_of_a_program_are_its_own(tmp_path, caplog):
    def add_config(cfg):
        cfg.SOLVER.OPTIMIZER = "ADAMW"
        cfg.MODEL.TIMM = CfgNode()
        cfg.MODEL.TIMM.BASE_NAME = "resnet50"

    cfg = get_cfg()
    add_config(cfg)
    path = tmp_path / "theirs.yaml"
    path.write_text("SOLVER: {OPTIMIZER: LAMB}\nMODEL: {TIMM: {BASE_NAME: x}}\n")
    cfg.merge_from_file(str(path))
    assert (cfg.SOLVER.OPTIMIZER, cfg.MODEL.TIMM.BASE_NAME) == ("LAMB", "x")
    cfg.merge_from_list(["SOLVER.OPTIMIZER", "ADAMW", "MODEL.TIMM.BASE_NAME", "y"])
    assert (cfg.SOLVER.OPTIMIZER, cfg.MODEL.TIMM.BASE_NAME) == ("ADAMW", "y")
    assert cfg.SOLVER.OPTIMIZER_NAME == "SGD" and not caplog.records
    assert type(build_optimizer(cfg, nn.Linear(1, 1))) is SGD
    assert "SOLVER.OPTIMIZER is 'ADAMW'" in caplog.text


def test_where_new_keys_are_allowed_nothing_is_renamed(tmp_path, caplog):
    (tmp_path / "old.yaml").write_text(OLD_FILE)
    cfg = get_cfg()
    cfg.set_new_allowed(True)
    cfg.merge_from_file(str(tmp_path / "old.yaml"))
    assert cfg.SOLVER.OPTIMIZER == "AdamW" and cfg.MODEL.TIMM.NAME == "resnet18"
    assert cfg.SOLVER.OPTIMIZER_NAME == "SGD" and not caplog.records


@pytest.mark.parametrize("name", RENAMED_OBJECTS)
def test_old_registered_names_work_until_a_program_takes_them(name, caplog, monkeypatch):
    monkeypatch.setattr(BACKBONE_REGISTRY, "_obj_map", dict(BACKBONE_REGISTRY._obj_map))
    assert BACKBONE_REGISTRY.get(name).__name__ == RENAMED_OBJECTS[name]
    assert f"MODEL.BACKBONE.NAME: {name} is now called" in caplog.text

    def theirs(cfg, input_shape): ...

    theirs.__name__ = name
    BACKBONE_REGISTRY.register(theirs)
    assert BACKBONE_REGISTRY.get(name) is theirs
