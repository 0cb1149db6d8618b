import functools
import logging
import threading
from types import SimpleNamespace

import cloudpickle
import omegaconf
import pytest
import yaml
from omegaconf import DictConfig
from torch import nn

from d2lite.config import LazyCall as L, LazyConfig, instantiate
from d2lite.layers import ShapeSpec

FILES = {
    "shared/train.py": "from d2lite.config import LazyCall as L\ntrain = dict(steps=10, lr=0.1)\n",
    "shared/parts/layer.py": (
        "from torch import nn\n"
        "from d2lite.config import LazyCall as L\n"
        "layer = L(nn.Linear)(in_features=2, out_features=3)\n"
        "_hidden = dict(a=1)\n"
        "size = 7\n"
    ),
    "main.py": (
        "from .shared.parts.layer import layer, size\n"
        "from .shared.train import train\n"
        "from .shared.parts import layer as module\n"
        "layer.out_features = size\n"
        "train.steps = 20\n"
        "untouched = module.layer\n"
        "_private = dict(a=1)\n"
    ),
    "deep/under/other.py": "from ...shared.train import train\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


# --- loading


def test_file_with_relative_imports(folder):
    cfg = LazyConfig.load(str(folder / "main.py"))
    assert set(cfg) == {"layer", "train", "untouched"}
    assert isinstance(cfg.train, DictConfig) and cfg.train == {"steps": 20, "lr": 0.1}
    assert instantiate(cfg.layer).weight.shape == (7, 2)


def test_imported_configs_are_copies(folder):
    cfg = LazyConfig.load(str(folder / "main.py"))
    assert cfg.untouched.out_features == 3
    assert LazyConfig.load(str(folder / "deep/under/other.py"), "train").steps == 10


def test_keys_choose_what_is_returned(folder):
    path = str(folder / "main.py")
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


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("x = (\n", SyntaxError, "broken.py"),
        ("from .none import x\n", ImportError, "none.py"),
        ("from .empty import x\n", ImportError, "x"),
        ("from . import none\n", ImportError, "none.py"),
    ],
)
def test_faults_in_a_file_are_told(tmp_path, text, error, message):
    (tmp_path / "broken.py").write_text(text)
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(error, match=message):
        LazyConfig.load(str(tmp_path / "broken.py"))


def test_modules_of_the_same_folder_and_of_a_package(folder):
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("y = dict(b=2)\n")
    (folder / "x.py").write_text("from . import main\nfrom .pack import y\nt = main.train\n")
    cfg = LazyConfig.load(str(folder / "x.py"))
    assert cfg.t.steps == 20 and cfg.y.b == 2


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
    assert "Nor can the config be pickled" in caplog.text


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


# --- overrides


@pytest.fixture
def cfg():
    return DictConfig(
        {
            "train": {"steps": 10, "name": "a", "sizes": [1, 2]},
            "model": L(nn.Linear)(in_features=2, out_features=3),
            "stages": [{"width": 1}, {"width": 2}],
        },
        flags={"allow_objects": True},
    )


@pytest.mark.parametrize(
    "text, value",
    [
        ("20", 20),
        ("1e-3", 0.001),
        ("true", True),
        ("null", None),
        ("", ""),
        ("word", "word"),
        ("'20'", "20"),
        ("[3,4]", [3, 4]),
        ("{a:1,b:{c:x}}", {"a": 1, "b": {"c": "x"}}),
        ("{url:http://x/y}", {"url": "http://x/y"}),
        ("a: b", "a: b"),
        ("x=y", "x=y"),
        ("${stages.0.width}", 1),
    ],
)
def test_override_values(cfg, text, value):
    assert LazyConfig.apply_overrides(cfg, [f"train.steps={text}"]) is cfg
    assert cfg.train.steps == value


def test_override_of_list_entries_and_call_arguments(cfg):
    LazyConfig.apply_overrides(
        cfg, ["stages.1.width=7", "train.sizes[0]=9", "model.in_features=5", "model.bias=false"]
    )
    assert cfg.stages[1].width == 7 and cfg.train.sizes == [9, 2]
    layer = instantiate(cfg.model)
    assert layer.in_features == 5 and layer.bias is None


def test_override_reaches_into_tuples_and_sets_them_as_a_whole():
    cfg = DictConfig({"stages": ({"width": 1}, {"width": 2}), "betas": (0.9, 0.999)})
    LazyConfig.apply_overrides(cfg, ["stages.1.width=7", "betas=[0.8, 0.9]"])
    assert cfg.stages[1].width == 7 and list(cfg.betas) == [0.8, 0.9]


@pytest.mark.skipif(not hasattr(omegaconf, "TupleConfig"), reason="tuples are lists before 2.4")
@pytest.mark.parametrize("override", ["betas.0=0.8", "betas[0]=0.8", "~betas.0"])
def test_override_of_a_part_of_a_tuple_is_refused(override):
    with pytest.raises(ValueError, match=r"betas is a tuple.*betas=\[\.\.\.\]"):
        LazyConfig.apply_overrides(DictConfig({"betas": (0.9, 0.999)}), [override])


def test_keys_are_added_and_removed(cfg):
    LazyConfig.apply_overrides(cfg, ["+train.extra.deep=1", "++new=2", "~train.name", "~stages.0"])
    assert cfg.train.extra.deep == 1 and cfg.new == 2
    assert "name" not in cfg.train and cfg.stages == [{"width": 2}]


@pytest.mark.parametrize(
    "override, error, message",
    [
        (
            "train.stesp=1",
            KeyError,
            r"train has no 'stesp'. Did you mean 'steps'\?.*\+train\.stesp",
        ),
        ("trian.steps=1", KeyError, "the config has no 'trian'. Did you mean 'train'"),
        ("train.name.x=1", KeyError, "train.name is a single value"),
        ("stages.5.width=1", KeyError, "stages has no '5'"),
        ("~train.nothing", KeyError, "nothing"),
        ("~model.bias", KeyError, "bias"),
        ("train.steps", ValueError, "key=value"),
        ("--train.steps=3 4", ValueError, "key=value"),
    ],
)
def test_override_of_what_is_not_there(cfg, override, error, message):
    with pytest.raises(error, match=message):
        LazyConfig.apply_overrides(cfg, [override])


# --- text


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


def test_target_must_be_callable():
    with pytest.raises(TypeError, match="callable"):
        L(3)
