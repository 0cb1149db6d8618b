import os
import signal
import subprocess
import sys
from enum import Enum

import pytest
import torch

from d2lite.checkpoint.reading import read_checkpoint_file
from d2lite.checkpoint.writing import atomic_write, save_checkpoint_file


def test_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path, "w") as file:
        file.write("new")
        file.flush()
        assert not path.exists()
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk"), atomic_write(path, "w") as file:
        file.write("half of the n")
        raise RuntimeError("disk")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


DIES_WHILE_WRITING = """
import os, signal, sys
from d2lite.checkpoint.writing import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "model_final.pth"
    save_checkpoint_file({"iteration": 1}, path)
    died = subprocess.run([sys.executable, "-c", DIES_WHILE_WRITING, path], cwd=os.getcwd())
    assert died.returncode == -signal.SIGKILL
    assert read_checkpoint_file(path) == {"iteration": 1}
    save_checkpoint_file({"iteration": 2}, path)  # the remains are no obstacle
    assert read_checkpoint_file(path) == {"iteration": 2}


class Color(Enum):
    RED = 1


@pytest.mark.parametrize(
    "data, where",
    [
        ({"trainer": {"hooks": [1, Color.RED]}}, r"checkpoint\['trainer'\]\['hooks'\]\[1\] is a"),
        ({"a": lambda: 0}, r"checkpoint\['a'\] is a builtins.function"),
        ({"a": {Color.RED: 1}}, r"checkpoint\['a'\] is a .*Color"),
    ],
)
def test_what_could_not_be_loaded_again_is_not_saved(tmp_path, data, where):
    with pytest.raises(TypeError, match=where):
        save_checkpoint_file(data, tmp_path / "run.pth")
    assert not list(tmp_path.iterdir())


def test_equal_states_make_equal_files(tmp_path):
    for name in ("a.pth", "b.pth"):
        save_checkpoint_file({"w": torch.arange(5), "n": 1}, tmp_path / name)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
