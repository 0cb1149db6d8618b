"""A disk that is full for a while: the run continues, and ends like one that always had space."""

import json
import os

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from d2lite.checkpoint import Checkpointer
from d2lite.checkpoint.reading import read_checkpoint_file
from d2lite.engine import BestCheckpointer, SimpleTrainer, hooks
from d2lite.utils.events import JSONWriter, TensorboardXWriter
from d2lite.utils.writing import WriteError
from tests.full_disk import no_room

MAX_ITER, PERIOD = 12, 3


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0, 1, 2000))

    def forward(self, x):
        return {"loss": (self.weight * x).square().sum()}


class FullDisk(hooks.HookBase):
    """No room for files of more than some bytes, from one iteration to another."""

    def __init__(self, first, last, longest_file):
        self.first, self.last, self.longest_file = first, last, longest_file
        self.open = None

    def before_step(self):
        if self.trainer.iter == self.first:
            self.open = no_room(self.longest_file)
            self.open.__enter__()

    def after_step(self):
        if self.trainer.iter == self.last:
            self.make_room()

    def make_room(self):
        if self.open is not None:
            self.open.__exit__(None, None, None)
            self.open = None


def run(folder, full=None, metrics=(0.1, 0.2, 0.3, 0.4), max_to_keep=None):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    trainer = SimpleTrainer(model, [torch.tensor(1.0 + i) for i in range(MAX_ITER)], optimizer)
    checkpointer = Checkpointer(model, str(folder), trainer=trainer)
    trainer.register_hooks(
        [
            full,
            hooks.PeriodicCheckpointer(checkpointer, PERIOD, max_to_keep=max_to_keep),
            hooks.EvalHook(PERIOD, lambda: {"bbox": {"AP": metrics[min(trainer.iter // 3, 3)]}}),
            BestCheckpointer(PERIOD, checkpointer, "bbox/AP"),
            hooks.PeriodicWriter(
                [JSONWriter(str(folder / "metrics.json")), TensorboardXWriter(str(folder))], 2
            ),
        ]
    )
    try:
        trainer.train(0, MAX_ITER)
    finally:
        if full is not None:
            full.make_room()
    return trainer


def metrics_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    timing = ("data_time", "rank_data_time")
    return [{k: v for k, v in line.items() if k not in timing} for line in lines]


def curve_of(folder):
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars("total_loss")]


def weights_of(folder, name="model_final.pth"):
    return read_checkpoint_file(folder / name)["model"]["weight"].tolist()


@pytest.fixture(scope="module")
def with_room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    run(folder)
    return folder


def test_checkpoints_that_cannot_be_written_do_not_end_the_run(tmp_path, with_room, caplog):
    tagged = []

    class Look(FullDisk):
        def after_step(self):
            tagged.append((tmp_path / "last_checkpoint").read_text() if self.open else "")
            super().after_step()

    run(tmp_path, Look(3, 6, longest_file=9000))  # enough for metrics and events
    assert weights_of(tmp_path) == weights_of(with_room)
    assert not (tmp_path / "model_0000005.pth").exists()
    assert {"model_0000002.pth", "model_0000008.pth"} <= set(os.listdir(tmp_path))
    assert not list(tmp_path.glob("*.partial"))
    # The best checkpoint of iteration 2 was the last one.
    assert tagged[3:6] == ["model_best.pth"] * 3
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert any("model_0000005.pth cannot be written" in e and "continues" in e for e in errors)
    assert all("\n" not in error for error in errors)
    assert metrics_of(tmp_path) == metrics_of(with_room)


def test_metrics_and_events_are_written_when_there_is_room_again(tmp_path, with_room, caplog):
    caplog.set_level("INFO", "d2lite.utils.events")
    run(tmp_path, FullDisk(1, 8, longest_file=0))
    assert metrics_of(tmp_path) == metrics_of(with_room)
    assert curve_of(tmp_path) == curve_of(with_room)
    told = [r.getMessage() for r in caplog.records if "d2lite.utils.events" in r.name]
    assert sum("metrics.json cannot be written" in message for message in told) == 1
    assert sum("tfevents" in message for message in told) == 1
    assert "JSONWriter: the values that were kept are now written" in told


def test_the_final_checkpoint_is_tried_twice_and_then_an_error(tmp_path, caplog):
    with pytest.raises(WriteError, match=r"model_final\.pth cannot be written"):
        run(tmp_path, FullDisk(9, 99, longest_file=9000))
    assert sum("model_final.pth cannot" in record.getMessage() for record in caplog.records) == 1
    assert (tmp_path / "last_checkpoint").read_text() == "model_best.pth"
    assert metrics_of(tmp_path)[-1]["iteration"] == 12  # the last evaluation is written


def test_the_final_checkpoint_is_saved_where_there_is_room_in_the_end(tmp_path, with_room):
    run(tmp_path, FullDisk(9, 11, longest_file=9000))
    assert weights_of(tmp_path) == weights_of(with_room)


def test_all_that_could_not_be_written_is_told_at_the_end(tmp_path, caplog):
    with pytest.raises(WriteError, match=r"model_final\.pth"):
        run(tmp_path, FullDisk(11, 99, longest_file=100))
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    at_the_end = [r.getMessage() for r in errors if "train_loop" in r.name]
    for message, name in zip(at_the_end, ("model_best.pth", "metrics.json"), strict=True):
        assert f"{name} cannot be written" in message


def test_no_older_checkpoint_is_deleted_for_one_that_is_not_there(tmp_path):
    with pytest.raises(WriteError):
        run(tmp_path, FullDisk(6, 99, longest_file=9000), max_to_keep=1)
    assert [p.name for p in sorted(tmp_path.glob("model_0*"))] == ["model_0000005.pth"]


def test_the_best_checkpoint_is_the_best_of_those_that_there_are(tmp_path):
    # The second evaluation is the best, but cannot be saved; the third is better than the first.
    run(tmp_path, FullDisk(4, 6, longest_file=9000), metrics=(0.1, 0.9, 0.5, 0.2))
    assert json.loads((tmp_path / "model_best.json").read_text())["iteration"] == 8
    assert weights_of(tmp_path, "model_best.pth") == weights_of(tmp_path, "model_0000008.pth")


def test_a_vanished_folder_is_made_again(tmp_path, caplog):
    folder = tmp_path / "run"

    class Vanish(FullDisk):
        def before_step(self):
            if self.trainer.iter == 4:
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()

    folder.mkdir()
    run(folder, Vanish(0, 0, 0))
    assert (folder / "last_checkpoint").read_text() == "model_best.pth"
    assert [line["iteration"] for line in metrics_of(folder)] == [5, 7, 8, 9, 11, 12]


def test_the_first_error_of_a_training_is_the_one_that_is_raised(tmp_path, caplog):
    class Fail(FullDisk):
        def after_step(self):
            if self.trainer.iter == 7:
                raise RuntimeError("the model is tired")

    with pytest.raises(RuntimeError, match="tired"):
        run(tmp_path, Fail(7, 99, longest_file=10))
    assert "metrics.json cannot be written" in caplog.text
