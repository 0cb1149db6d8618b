"""The table of a run's scalars."""

import csv

import pytest

from d2lite.utils import csv_writer
from d2lite.utils.csv_writer import CSVWriter
from d2lite.utils.events import EventStorage
from d2lite.utils.writing import WriteError


def write(path, values, start=0, last_again=False):
    """One write after each iteration, of {name: value}."""
    writer = CSVWriter(str(path))
    with EventStorage(start) as storage:
        if last_again:
            storage.iter = start - 1
            writer.write_last_again()
        for storage.iter, scalars in enumerate(values, start - last_again):
            storage.put_scalars(**scalars, smoothing_hint=False)
            writer.write()
    writer.close()


def test_a_row_for_each_iteration(tmp_path):
    path = tmp_path / "metrics.csv"
    write(path, [{"loss": 0.5, "lr": 1.0}, {"loss": 0.25, "lr": 1e-05}])
    assert path.read_text() == "iteration,loss,lr\n0,0.5,1.0\n1,0.25,1e-05\n"


def test_a_new_scalar_is_a_new_column(tmp_path):
    path = tmp_path / "metrics.csv"
    write(path, [{"loss": 0.5}, {"AP-a, b\nc": 7.0, "loss": 1.0}, {"loss": 2.0}])
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["AP-a, b c"] for row in rows] == ["", "7.0", ""]
    assert [row["loss"] for row in rows] == ["0.5", "1.0", "2.0"]


@pytest.mark.parametrize("last_again, first", [(False, 2), (True, 1)])
def test_a_resumed_run_has_each_iteration_once(tmp_path, last_again, first):
    path = tmp_path / "metrics.csv"
    write(path, [{"loss": float(k)} for k in range(5)])
    with open(path, "a", encoding="utf-8") as file:
        file.write("5,0.")  # cut off by a kill
    write(path, [{"loss": 10.0 + k} for k in range(first, 4)], start=2, last_again=last_again)
    old = [f"{k},{float(k)}" for k in range(first)]
    new = [f"{k},{10.0 + k}" for k in range(first, 4)]
    assert path.read_text().splitlines() == ["iteration,loss", *old, *new]


def test_a_new_run_does_not_add_to_the_table_of_another(tmp_path):
    path = tmp_path / "metrics.csv"
    write(path, [{"loss": 1.0}])
    write(path, [{"loss": 2.0}])
    assert path.read_text() == "iteration,loss\n0,2.0\n"
    assert (tmp_path / "previous_run/metrics.csv").read_text() == "iteration,loss\n0,1.0\n"


def test_rows_that_cannot_be_written_are_kept(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    full = [True]

    def append(path, data):
        if full[0]:
            raise WriteError(path, OSError(28, "No space left on device"))
        real(path, data)

    real = csv_writer.append
    monkeypatch.setattr(csv_writer, "append", append)
    writer = CSVWriter(str(path))
    with EventStorage() as storage:
        for storage.iter in range(4):
            full[0] = storage.iter < 3
            storage.put_scalar("loss", storage.iter)
            writer.write()
    assert path.read_text().splitlines()[1:] == ["0,0.0", "1,0.5", "2,1.0", "3,1.5"]  # medians
    full[0] = True
    with EventStorage(4) as storage:
        storage.put_scalar("loss", 1.0)
        writer.write()
        with pytest.raises(WriteError, match=r"metrics\.csv cannot be written"):
            writer.close()
