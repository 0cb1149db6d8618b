"""Python config files: what they import, and faults in them."""

import pytest
from omegaconf import DictConfig

from d2lite.config import LazyConfig, instantiate

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


def test_file_with_relative_imports(folder):
    cfg = LazyConfig.load(str(folder / "main.py"))
    assert set(cfg) == {"layer", "train", "untouched"}
    assert isinstance(cfg.train, DictConfig) and cfg.train == {"steps": 20, "lr": 0.1}
    assert instantiate(cfg.layer).weight.shape == (7, 2)


def test_imported_configs_are_copies(folder):
    cfg = LazyConfig.load(str(folder / "main.py"))
    assert cfg.untouched.out_features == 3
    assert LazyConfig.load(str(folder / "deep/under/other.py"), "train").steps == 10


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
