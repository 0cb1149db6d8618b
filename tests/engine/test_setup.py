"""Config, folder and logs of a training program."""

import json
from argparse import Namespace

import pytest
import torch
from torch import nn

from d2lite.config import get_cfg
from d2lite.engine import (
    config_from_args,
    create_ddp_model,
    default_argument_parser,
    default_setup,
    default_writers,
)
from d2lite.utils.events import EventStorage
from tests.engine.tiny import tiny_cfg


def test_command_line_comes_after_the_config_file(tmp_path):
    (tmp_path / "a.yaml").write_text("SEED: 5\nSOLVER: {MAX_ITER: 7}\n", encoding="utf-8")
    words = ["--config-file", str(tmp_path / "a.yaml"), "SOLVER.MAX_ITER", "9"]
    cfg = config_from_args(default_argument_parser().parse_args(words))
    assert (cfg.SEED, cfg.SOLVER.MAX_ITER) == (5, 9)
    assert get_cfg().SOLVER.BASE_LR == cfg.SOLVER.BASE_LR


def test_a_run_keeps_its_config_and_sets_the_seed(tmp_path):
    cfg = tiny_cfg(tmp_path, SEED=11)
    default_setup(cfg, Namespace(config_file=""))
    first = torch.rand(3)
    kept = get_cfg()
    kept.merge_from_file(str(tmp_path / "config.yaml"))
    assert kept == cfg
    default_setup(cfg, Namespace(config_file=""))
    assert torch.equal(torch.rand(3), first)
    assert "All settings are in" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    cfg = tiny_cfg(tmp_path / "file" / "run")
    with pytest.raises(OSError, match=r"OUTPUT_DIR '\S+run' cannot be written to .*; choose"):
        default_setup(cfg, Namespace(config_file=""))


def test_one_process_needs_no_wrapper():
    model = nn.Linear(1, 1)
    assert create_ddp_model(model) is model


def test_default_writers_write_lines_and_curves(tmp_path):
    writers = default_writers(str(tmp_path / "run"), 10)
    with EventStorage() as storage:
        storage.put_scalar("loss", 0.5)
        for writer in writers[1:]:
            writer.write()
            writer.close()
    assert json.loads((tmp_path / "run/metrics.json").read_text())["loss"] == 0.5
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))
