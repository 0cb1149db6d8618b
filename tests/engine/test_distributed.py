"""Two processes under torchrun on the CPU: equal weights, equal figures."""

import json
import sys

import pytest
import torch

from tests.engine.tiny import TRAIN_NET, command, run

PROGRAM = '''
"""train_net with a look at every rank's weights at the end."""
import hashlib, pathlib, runpy, sys
from d2lite.engine import DefaultTrainer
from d2lite.utils import comm

train = DefaultTrainer.train

def train_and_tell(self):
    result = train(self)
    digest = hashlib.sha256()
    for tensor in self.model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    path = pathlib.Path(self.cfg.OUTPUT_DIR) / f"digest{comm.get_rank()}"
    path.write_text(digest.hexdigest())
    return result

DefaultTrainer.train = train_and_tell
sys.argv[0] = TOOL
runpy.run_path(TOOL, run_name="__main__")
'''


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two processes with BatchNorm, whose ranks see different images."""
    folder = tmp_path_factory.mktemp("two")
    program = folder / "program.py"
    program.write_text(PROGRAM.replace("TOOL", repr(TRAIN_NET)))
    arguments = command(folder, tool=str(program), **TEST)[1:]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = run([*torchrun, "--standalone", *arguments])
    assert done.returncode == 0, done.stderr
    return folder


TEST = {"DATASETS__TEST": ("shapes_val",), "SOLVER__MAX_ITER": 6, "INPUT__MIN_SIZE_TEST": 32}


def last_metrics(folder):
    return json.loads((folder / "metrics.json").read_text().splitlines()[-1])


def test_both_ranks_hold_equal_weights_and_statistics(trained):
    assert (trained / "digest0").read_text() == (trained / "digest1").read_text()


def test_evaluation_by_two_equals_evaluation_by_one(trained, tmp_path):
    weights = str(trained / "model_final.pth")
    done = run(command(tmp_path, "--eval-only", MODEL__WEIGHTS=weights, **TEST))
    assert done.returncode == 0, done.stderr
    by_two = json.loads((trained / "inference/coco_instances_results.json").read_text())
    by_one = json.loads((tmp_path / "inference/coco_instances_results.json").read_text())
    assert by_one
    key = str
    assert sorted(by_one, key=key) == sorted(by_two, key=key)
    assert torch.load(weights, weights_only=True)["iteration"] == 5
    assert {"bbox/AP", "bbox/AP50"} <= set(last_metrics(trained))
