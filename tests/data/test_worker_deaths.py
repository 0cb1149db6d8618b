"""Workers of a loader that are killed, or raise: one line says which, and on which image."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from d2lite.data import build_detection_test_loader, build_detection_train_loader
from d2lite.data.samplers import TrainingSampler
from d2lite.data.worker_deaths import WorkBoard
from d2lite.engine import SimpleTrainer
from d2lite.evaluation import inference_on_dataset
from d2lite.utils.cli import report_user_errors
from d2lite.utils.errors import ProcessDiedError

DICTS = [
    {"file_name": f"image{i}.png", "image_id": i, "height": 8, "width": 8, "annotations": []}
    for i in range(6)
]


class Mapper:
    """Does something to one of the images."""

    def __init__(self, action, image="image3.png"):
        self.action, self.image = action, image

    def __call__(self, dataset_dict):
        if dataset_dict["file_name"] == self.image:
            self.action()
        return {"image": torch.zeros(3, 8, 8), **dataset_dict}


def die(number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def train_loader(mapper, workers=1, **kwargs):
    return build_detection_train_loader(
        [dict(one) for one in DICTS],
        mapper=mapper,
        total_batch_size=1,
        num_workers=workers,
        aspect_ratio_grouping=False,
        sampler=TrainingSampler(len(DICTS), seed=1),
        **kwargs,
    )


def take_all(loader):
    for _, _ in zip(range(12), loader, strict=False):
        pass


@pytest.mark.parametrize(
    "number, advice",
    [
        (signal.SIGKILL, "memory runs out"),
        (signal.SIGBUS, "enlarge /dev/shm"),
        (signal.SIGSEGV, "NUM_WORKERS 0"),
    ],
)
def test_a_killed_worker_is_told_with_signal_and_image(number, advice):
    with pytest.raises(ProcessDiedError) as error:
        take_all(train_loader(Mapper(lambda: die(number)), workers=2))
    message = str(error.value)
    assert f"was killed by {number.name} while it made the sample of image3.png" in message
    assert message.startswith(("Worker 0 of", "Worker 1 of"))
    assert advice in message and "--resume" in message
    assert "\n" not in message


def test_a_worker_that_exits_is_told_with_its_status():
    with pytest.raises(ProcessDiedError, match=r"exited with status 7 while .* image3\.png"):
        take_all(train_loader(Mapper(lambda: os._exit(7))))


class Slow(nn.Module):
    """A model in whose step a worker dies, not while a batch is waited for."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        for _ in range(3000):
            time.sleep(0.001)
        return {"loss": self.weight.square().sum()}


def test_a_death_within_a_step_is_told_too(capsys):
    model = Slow()
    loader = train_loader(Mapper(lambda: die(signal.SIGKILL)), workers=1, prefetch_factor=6)
    trainer = SimpleTrainer(model, loader, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(SystemExit) as stop, report_user_errors():
        trainer.train(0, 12)
    assert stop.value.code == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("ProcessDiedError: Worker 0 of the data loader (process ")
    assert "SIGKILL while it made the sample of image3.png" in told[0]


@pytest.mark.parametrize("skips", [False, True])
def test_a_killed_worker_of_an_evaluation(skips):
    mapper = Mapper(lambda: die(signal.SIGKILL))
    options = {"on_bad_sample": "skip"} if skips else {}
    loader = build_detection_test_loader(DICTS, mapper=mapper, num_workers=1, **options)
    with pytest.raises(ProcessDiedError, match=r"Worker 0 .* SIGKILL .* image3\.png"):
        inference_on_dataset(lambda batch: batch, loader, None)


def raise_(error):
    raise error


class Odd(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)


@pytest.mark.parametrize(
    "raised, kind, message",
    [
        (KeyError("boxes"), KeyError, "'boxes' (in worker 0 of the data loader, on image3.png)"),
        (IndexError("out"), IndexError, "out (in worker 0 of the data loader, on image3.png)"),
        (Odd(3, "why"), RuntimeError, "Odd: (3, 'why') (in worker 0 of the data loader, on"),
        (MemoryError(), MemoryError, "in worker 0 of the data loader, on image3.png)"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_an_error_in_a_worker_is_one_line_of_its_own_class(raised, kind, message, training):
    mapper = Mapper(lambda: raise_(raised))
    loader = (
        train_loader(mapper)
        if training
        else build_detection_test_loader(DICTS, mapper=mapper, num_workers=1)
    )
    with pytest.raises(kind) as error:
        take_all(loader)
    assert message in error.value.args[0]
    assert "\n" not in error.value.args[0]
    assert "in __call__" in str(error.value.__cause__)  # where the worker raised it


def test_what_was_skipped_is_not_blamed_later():
    def fail_or_die():
        raise OSError("cut off")

    class Both(Mapper):
        def __call__(self, dataset_dict):
            if dataset_dict["file_name"] == "image1.png":
                raise TypeError("no such thing")
            return super().__call__(dataset_dict)

    loader = train_loader(Both(fail_or_die, "image3.png"), on_bad_sample="skip")
    with pytest.raises(TypeError, match=r"on image1\.png"):
        for _, _ in zip(range(60), loader, strict=False):
            pass


def test_workers_change_nothing():
    make = Mapper(lambda: None)
    alone, apart = (
        [batch[0]["file_name"] for _, batch in zip(range(9), train_loader(make, n), strict=False)]
        for n in (0, 2)
    )
    assert alone == apart
    assert np.unique(alone).size > 1


def test_the_workers_of_an_evaluation_that_fails_are_gone_at_once():
    loader = build_detection_test_loader(DICTS, mapper=Mapper(lambda: None), num_workers=2)
    before = children()

    def model(batch):
        assert len(children() - before) == 2
        raise OverflowError("the model")

    with pytest.raises(OverflowError) as error:
        inference_on_dataset(model, loader, None)
    assert children() == before, error  # which holds the frames of the evaluation


def children():
    import multiprocessing

    return {process.pid for process in multiprocessing.active_children()}


def fail():
    raise ZeroDivisionError("no such image")


def test_a_lock_that_a_killed_worker_held_stops_nothing(monkeypatch):
    iterators = []
    end_workers = WorkBoard.end_workers

    def end_one_that_looks_at_the_event(board, batches):
        iterators.append(batches)
        # The lock stays taken, as of a worker that is killed between taking and leaving it.
        batches._workers_done_event._cond.acquire()
        end_workers(board, batches)

    monkeypatch.setattr(WorkBoard, "end_workers", end_one_that_looks_at_the_event)
    with pytest.raises(Exception, match="no such image"):
        take_all(train_loader(Mapper(fail), workers=2))
    dropping = threading.Thread(target=iterators[0]._shutdown_workers, daemon=True)
    dropping.start()
    dropping.join(timeout=30)
    assert not dropping.is_alive()
