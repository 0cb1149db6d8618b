import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from d2lite.utils.event_files import drop_event_records_from, drop_json_lines_from


def write_lines(path, iterations):
    path.write_text("".join(json.dumps({"iteration": i}) + "\n" for i in iterations))


def write_events(folder, steps):
    with SummaryWriter(str(folder)) as writer:
        for step in steps:
            writer.add_scalar("loss", float(step), step)


def steps_of(folder):
    accumulator = EventAccumulator(str(folder), purge_orphaned_data=False)
    accumulator.Reload()
    return [event.step for event in accumulator.Scalars("loss")]


def test_json_lines_from_the_start_on_are_dropped(tmp_path):
    path = tmp_path / "metrics.json"
    write_lines(path, [19, 39, 57])
    assert drop_json_lines_from(40, str(path)) == 39
    assert path.read_text() == '{"iteration": 19}\n{"iteration": 39}\n'


@pytest.mark.parametrize("rest", ['{"iterat', "3\n", '{"loss": 1}\n'])
def test_unreadable_json_line_is_dropped(tmp_path, rest):
    path = tmp_path / "metrics.json"
    write_lines(path, [19])
    path.write_text(path.read_text() + rest)
    drop_json_lines_from(40, str(path))
    assert path.read_text() == '{"iteration": 19}\n'


def test_file_without_later_lines_is_left_alone(tmp_path):
    path = tmp_path / "metrics.json"
    write_lines(path, [19])
    before = path.stat().st_ino
    drop_json_lines_from(40, str(path))
    assert path.stat().st_ino == before


def test_missing_files_are_no_error(tmp_path):
    assert drop_json_lines_from(40, str(tmp_path / "metrics.json")) == -1
    assert drop_event_records_from(40, str(tmp_path)) == {}


def test_event_records_from_the_start_on_are_dropped(tmp_path):
    write_events(tmp_path, range(0, 60, 5))
    assert drop_event_records_from(40, str(tmp_path)) == {"loss": 35}
    assert steps_of(tmp_path) == list(range(0, 40, 5))
    assert len(list(tmp_path.iterdir())) == 1  # no temporary file stays


def test_event_file_cut_off_by_a_kill_keeps_its_whole_records(tmp_path):
    write_events(tmp_path, range(60))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    drop_event_records_from(40, str(tmp_path))
    assert steps_of(tmp_path) == list(range(40))


def test_what_is_written_again_is_dropped_as_well(tmp_path):
    write_lines(tmp_path / "metrics.json", [19, 39, 57])
    assert drop_json_lines_from(40, str(tmp_path / "metrics.json"), last_too=True) == 19
    write_events(tmp_path, range(36, 44))
    with SummaryWriter(str(tmp_path), filename_suffix=".2") as writer:
        writer.add_scalar("other", 1.0, 38)
        writer.add_histogram("weights", torch.ones(3), 39)
    left = drop_event_records_from(40, str(tmp_path), last_too=True)
    assert left == {"loss": 38, "other": 38, "weights": 39}


def test_run_from_the_start_sets_old_files_aside(tmp_path):
    write_lines(tmp_path / "metrics.json", [19])
    write_events(tmp_path, [19])
    drop_json_lines_from(0, str(tmp_path / "metrics.json"))
    drop_event_records_from(0, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["previous_run"]
    assert (tmp_path / "previous_run" / "metrics.json").read_text() == '{"iteration": 19}\n'
    assert steps_of(tmp_path / "previous_run") == [19]
