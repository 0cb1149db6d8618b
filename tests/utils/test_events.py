import json
import logging
import re

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from d2lite.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    ProgressBarWriter,
    TensorboardXWriter,
)
from tests.golden import REFERENCE

LOGGING_FACTS = yaml.safe_load((REFERENCE / "logging_facts.yaml").read_text())


def put_step(storage, iteration):
    """The figures of one training step: the loss equals the iteration."""
    storage.iter = iteration
    storage.put_scalar("time", 0.5)
    storage.put_scalars(total_loss=float(iteration), loss_cls=1.0, data_time=0.25)
    storage.put_scalar("lr", 0.02, smoothing_hint=False)


def run(writers, start, end, state=None, period=20, stop_after=None):
    """Iterate as the training loop does; returns the state after iteration 39, if it gets there."""
    state_at_39 = None
    with EventStorage(start) as storage:
        storage.load_state_dict(state or {})
        for iteration in range(start, end):
            put_step(storage, iteration)
            if (iteration + 1) % period == 0:
                for writer in writers:
                    writer.write()
            if iteration == 39:
                state_at_39 = storage.state_dict()
        if stop_after is None:
            storage.iter = end
            storage.put_scalar("bbox/AP", 50.0, smoothing_hint=False)
            for writer in writers:
                writer.write()
                writer.close()
    return state_at_39


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_restored_storage_shows_the_same_smoothed_figures(tmp_path):
    whole, parted = JSONWriter(str(tmp_path / "a.json")), JSONWriter(str(tmp_path / "b.json"))
    run([whole], 0, 60)
    state = run([], 0, 40)
    torch.save(state, tmp_path / "state.pth")
    state = torch.load(tmp_path / "state.pth", weights_only=True)
    with EventStorage(40) as storage:
        storage.load_state_dict(state)
        for iteration in range(40, 50):  # fewer than the window
            put_step(storage, iteration)
        parted.write()
    # iterations 30 to 49, as in an uninterrupted run
    assert json_lines(tmp_path / "b.json")[0]["total_loss"] == 39.5
    assert storage.history("total_loss").global_avg() == pytest.approx(24.5)  # 0 to 49


def test_json_has_the_cadence_of_detectron2(tmp_path):
    facts = LOGGING_FACTS["faster_rcnn_no_eval"]["metrics_json_iterations"]
    assert facts == [19, 29, 30]
    writer = JSONWriter(str(tmp_path / "metrics.json"))
    with EventStorage() as storage:
        for iteration in range(30):
            put_step(storage, iteration)
            if (iteration + 1) % 20 == 0 or iteration == 29:
                writer.write()
        storage.iter = 30
        storage.put_scalar("bbox/AP", 12.5, smoothing_hint=False)
        writer.write()
    lines = json_lines(tmp_path / "metrics.json")
    assert [line["iteration"] for line in lines] == facts
    assert lines[0]["total_loss"] == 9.5  # the median of 0 to 19
    assert lines[1]["total_loss"] == 19.5  # the median of 10 to 29
    assert lines[2] == {"bbox/AP": 12.5, "iteration": 30}


@pytest.mark.parametrize("resumed_end", [58, 80])
def test_resumed_run_has_each_iteration_once(tmp_path, resumed_end):
    # Killed after 57 with figures of every iteration written; the last checkpoint is of 39.
    path = tmp_path / "metrics.json"

    def writers():
        return [JSONWriter(str(path)), TensorboardXWriter(str(tmp_path))]

    state = run(writers(), 0, 58, period=1, stop_after=57)
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"iteration": 58, "total_')  # the kill came in the middle of a line
    run(writers(), 40, resumed_end, state, period=1)
    assert [line["iteration"] for line in json_lines(path)] == list(range(resumed_end + 1))

    for purge in (False, True):  # whatever a viewer does about overlapping files
        accumulator = EventAccumulator(str(tmp_path), purge_orphaned_data=purge)
        accumulator.Reload()
        steps = [event.step for event in accumulator.Scalars("loss_cls")]
        assert steps == list(range(resumed_end))
        assert [e.step for e in accumulator.Scalars("bbox/AP")] == [resumed_end]


def test_figures_of_the_checkpoint_are_not_written_again(tmp_path):
    path = tmp_path / "metrics.json"
    state = run([JSONWriter(str(path))], 0, 58, stop_after=57)
    run([JSONWriter(str(path))], 40, 60, state)
    assert [line["iteration"] for line in json_lines(path)] == [19, 39, 59, 60]


def test_figure_that_the_former_run_had_not_written_is_written(tmp_path):
    # Put in iteration 37, checkpoint after it, killed before the record of iteration 39.
    path = tmp_path / "metrics.json"
    with EventStorage(0) as storage:
        writer = JSONWriter(str(path))
        for iteration in range(38):
            put_step(storage, iteration)
            if iteration == 19:
                writer.write()
        storage.put_scalar("rare", 7.0, smoothing_hint=False)
        state = storage.state_dict()
    run([JSONWriter(str(path))], 38, 60, state)
    lines = json_lines(path)
    assert [line["iteration"] for line in lines] == [19, 37, 39, 59, 60]
    assert lines[1] == {"iteration": 37, "rare": 7.0}


def test_tensorboard_gets_scalars_images_and_histograms(tmp_path):
    writer = TensorboardXWriter(str(tmp_path))
    with EventStorage() as storage:
        storage.put_scalar("loss", 0.5)
        storage.put_image("picture", torch.zeros(3, 4, 5, dtype=torch.uint8))
        storage.put_histogram("weights", torch.arange(10.0))
        writer.write()
        assert not storage._vis_data and not storage._histograms
    writer.close()
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert accumulator.Scalars("loss")[0].value == 0.5
    image = accumulator.Images("picture")[0]
    assert (image.height, image.width) == (4, 5)
    assert accumulator.Histograms("weights")[0].histogram_value.num == 10


def test_writer_that_never_wrote_closes_and_leaves_nothing(tmp_path):
    for writer in (JSONWriter(str(tmp_path / "m.json")), TensorboardXWriter(str(tmp_path))):
        writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def log_lines():
    """Return what CommonMetricPrinter logs."""
    lines = []

    class Collect(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("d2lite.utils.events"), Collect()
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)  # also forgets what the logger knows of other levels
    yield lines
    logger.setLevel(before)
    logger.removeHandler(handler)


def test_progress_line_is_that_of_detectron2(log_lines):
    printer = CommonMetricPrinter(max_iter=40)
    with EventStorage() as storage:
        for iteration in range(20):
            put_step(storage, iteration)
            for name in ("loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"):
                storage.put_scalar(name, 0.5)
        printer.write()
    (line,) = log_lines
    line = re.sub(r"  max_mem: \d+M$", "", line)  # shown on the CPU too
    expected = LOGGING_FACTS["faster_rcnn_no_eval"]["progress_line_with_numbers_as_#"]
    assert re.sub(r"\d+(\.\d+)?", "#", line).strip() == expected
    assert "eta: 0:00:10  iter: 19  total_loss: 9.5" in line  # 20 steps of half a second
    assert "lr: 0.02" in line
    assert storage.latest()["eta_seconds"] == (10.0, 19)


def test_progress_line_shows_memory(log_lines):
    with EventStorage() as storage:
        put_step(storage, 0)
        CommonMetricPrinter().write()
    megabytes = int(re.search(r"max_mem: (\d+)M$", log_lines[0])[1])
    assert 50 < megabytes < 100_000


def test_nothing_is_printed_after_training_or_without_figures_fails(log_lines):
    printer = CommonMetricPrinter(max_iter=5)
    with EventStorage(5):
        printer.write()
    assert log_lines == []
    with EventStorage(0):
        printer.write()
    assert log_lines[0].startswith(" iter: 0  ") and "lr: N/A" in log_lines[0]


def test_progress_bar_follows_the_iteration():
    class Terminal:
        """A stream that says it is a terminal, and keeps what is drawn."""

        def __init__(self):
            self.text = ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

        def isatty(self):
            return True

    terminal = Terminal()
    assert ProgressBarWriter.suits(terminal)
    writer = ProgressBarWriter(max_iter=30, file=terminal)
    with EventStorage(10) as storage:
        for iteration in range(10, 30):
            put_step(storage, iteration)
            writer.write()
        storage.iter = 30  # after training: it must not run over its end
        writer.write()
    writer.close()
    assert "30/30" in terminal.text and "train" in terminal.text


def test_pipe_does_not_suit_a_progress_bar(tmp_path):
    with open(tmp_path / "file", "w", encoding="utf-8") as stream:
        assert not ProgressBarWriter.suits(stream)


def test_line_has_the_scalars_that_are_called_metrics(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("d2lite"), "propagate", True)
    with EventStorage() as storage, caplog.at_level(logging.INFO, logger="d2lite.utils.events"):
        storage.put_scalars(**{"[metric]bn_stat": 1.5, "loss_a": 2.0, "other": 3.0})
        CommonMetricPrinter(10).write()
    assert "loss_a: 2  [metric]bn_stat: 1.5" in caplog.text and "other" not in caplog.text
