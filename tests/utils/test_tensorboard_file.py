"""Event files that are written without a thread, read by tensorboard."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from d2lite.utils import tensorboard_file
from d2lite.utils.tensorboard_file import make_summary_writer
from d2lite.utils.writing import WriteError


def steps_of(folder) -> list[int]:
    accumulator = EventAccumulator(str(folder), purge_orphaned_data=False)
    accumulator.Reload()
    return [event.step for event in accumulator.Scalars("loss")]


def files_of(folder) -> list:
    return sorted(folder.glob("events.out.tfevents.*")) if folder.is_dir() else []


def test_events_are_in_the_file_after_each_flush(tmp_path):
    folder = tmp_path / "run"
    writer = make_summary_writer(str(folder))
    writer.add_scalar("loss", 0.5, 1)
    assert not [file for file in files_of(folder) if file.stat().st_size]
    writer.flush()
    assert steps_of(folder) == [1]
    writer.add_scalar("loss", 0.5, 2)
    writer.flush()
    assert steps_of(folder) == [1, 2] and len(files_of(folder)) == 1
    writer.add_scalar("loss", 0.5, 3)
    writer.close()
    assert steps_of(folder) == [1, 2, 3]
    (file,) = files_of(folder)
    versions = [event.file_version for event in EventFileLoader(str(file)).Load()]
    assert [bool(version) for version in versions] == [True, False, False, False]


def test_two_writers_have_a_file_each(tmp_path):
    for suffix in (".a", ".b"):
        writer = make_summary_writer(str(tmp_path), filename_suffix=suffix)
        writer.add_scalar("loss", 0.5, 1)
        writer.close()
    assert {file.suffix for file in files_of(tmp_path)} == {".a", ".b"}


@pytest.fixture
def full(monkeypatch):
    """A list that is not empty as long as the disk is full."""
    append, full = tensorboard_file.append, []

    def append_or_fail(path, data):
        if full:
            raise WriteError(path, OSError(28, "No space left on device"))
        append(path, data)

    monkeypatch.setattr(tensorboard_file, "append", append_or_fail)
    return full


def test_events_that_cannot_be_written_are_kept(tmp_path, full):
    writer = make_summary_writer(str(tmp_path))
    full.append(True)
    for step in (1, 2):
        writer.add_scalar("loss", 0.5, step)
        with pytest.raises(WriteError):
            writer.flush()
    full.clear()
    writer.add_scalar("loss", 0.5, 3)
    writer.flush()
    assert steps_of(tmp_path) == [1, 2, 3]
    writer.close()
    assert steps_of(tmp_path) == [1, 2, 3]  # none twice


def test_the_oldest_events_go_if_too_many_are_kept(tmp_path, full, monkeypatch):
    writer = make_summary_writer(str(tmp_path))
    full.append(True)
    writer.add_scalar("loss", 0.5, 10)
    with pytest.raises(WriteError):
        writer.flush()
    (record,) = writer.file_writer.event_writer._pending
    monkeypatch.setattr(tensorboard_file, "_MOST_KEPT", 2 * len(record))
    full.clear()
    for step in (11, 12):
        writer.add_scalar("loss", 0.5, step)
    writer.flush()
    assert steps_of(tmp_path) == [11, 12]
