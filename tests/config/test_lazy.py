import functools
import logging
import threading
from types import SimpleNamespace

import cloudpickle
import pytest
import yaml
from omegaconf import DictConfig
from torch import nn

from d2lite.config import LazyCall as L, LazyConfig, instantiate
from d2lite.layers import ShapeSpec

# --- loading


def test_keys_choose_what_is_returned(tmp_path):
    (tmp_path / "main.py").write_text("train = dict(steps=20)\nsize = 7\n_private = dict(a=1)\n")
    path = str(tmp_path / "main.py")
    train, size = LazyConfig.load(path, ("train", "size"))
    assert train.steps == 20 and size == 7
    assert LazyConfig.load(path, "_private") == {"a": 1}
    with pytest.raises(KeyError, match="Did you mean 'train'"):
        LazyConfig.load(path, "trian")


def test_path_from_the_calling_file(tmp_path):
    (tmp_path / "near.py").write_text("x = dict(a=1)\n")
    caller = compile("cfg = LazyConfig.load_rel('near.py')", str(tmp_path / "caller.py"), "exec")
    names = {"LazyConfig": LazyConfig}
    exec(caller, names)
    assert names["cfg"].x.a == 1
    with pytest.raises(ValueError, match="use load"):
        exec(compile("LazyConfig.load_rel('near.py')", "<prompt>", "exec"), names)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be \.py or \.yaml"):
        LazyConfig.load("config.json")
    with pytest.raises(FileNotFoundError, match=r"none.py"):
        LazyConfig.load(str(tmp_path / "none.py"))


# --- saving


def double(x):
    return 2 * x


def test_saved_config_builds_the_same(tmp_path):
    cfg = DictConfig(
        {
            "layer": L(nn.Linear)(in_features=2, out_features="${width}"),
            "width": 4,
            "kind": nn.ReLU,
            "call": double,
            "norm": functools.partial(nn.LayerNorm, eps=1e-6),
            "sizes": (1, 2),
            "none": None,
        },
        flags={"allow_objects": True},
    )
    path = tmp_path / "config.yaml"
    LazyConfig.save(cfg, str(path))
    assert cfg.layer._target_ is nn.Linear  # the argument is left alone
    assert "!!" not in path.read_text()
    with pytest.raises(ValueError, match=r"call would call 'tests\.config\.test_lazy\.double'"):
        LazyConfig.load(str(path))
    again = LazyConfig.load(str(path), trust=True)
    assert instantiate(again.layer).weight.shape == (4, 2)
    assert instantiate(again.kind) is nn.ReLU and instantiate(again.call)(3) == 6
    norm = instantiate(again.norm)
    assert norm.func is nn.LayerNorm and norm.keywords == {"eps": 1e-6}
    assert again.sizes == [1, 2] and again.none is None
    again.width = 5  # references survive
    assert again.layer.out_features == 5


def test_value_without_a_name_is_saved_as_text_with_a_warning(tmp_path, caplog, monkeypatch):
    path = tmp_path / "config.yaml"
    cfg = DictConfig({"a": {"f": lambda x: x}}, flags={"allow_objects": True})
    monkeypatch.setattr(logging.getLogger("d2lite"), "propagate", True)
    LazyConfig.save(cfg, str(path))
    assert "lambda" in yaml.safe_load(path.read_text())["a"]["f"]
    assert "the values of a.f, which are saved as text" in caplog.text
    # and as a whole beside it
    assert cloudpickle.loads((tmp_path / "config.yaml.pkl").read_bytes()).a.f(3) == 3


def test_config_that_cannot_be_pickled_is_saved_as_text_all_the_same(tmp_path, caplog, monkeypatch):
    path = tmp_path / "config.yaml"
    cfg = DictConfig({"lock": threading.Lock(), "a": 1}, flags={"allow_objects": True})
    monkeypatch.setattr(logging.getLogger("d2lite"), "propagate", True)
    LazyConfig.save(cfg, str(path))
    assert yaml.safe_load(path.read_text())["a"] == 1
    assert not (tmp_path / "config.yaml.pkl").exists()
    assert "The config cannot be pickled either" in caplog.text


def test_dataclasses_are_saved_with_their_types(tmp_path):
    path = str(tmp_path / "config.yaml")
    cfg = L(SimpleNamespace)(shape=ShapeSpec(channels=3), shapes=[ShapeSpec(stride=2)])
    LazyConfig.save(cfg, path)
    for one in (cfg, LazyConfig.load(path)):
        made = instantiate(one)
        assert made.shape == ShapeSpec(channels=3)
        assert list(made.shapes) == [ShapeSpec(stride=2)]


def test_yaml_that_runs_code_is_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("x: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ValueError, match="would run code"):
        LazyConfig.load(str(path))


def test_target_must_be_callable():
    with pytest.raises(TypeError, match="callable"):
        L(3)
