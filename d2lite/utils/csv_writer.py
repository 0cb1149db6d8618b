"""The scalars of a run as a table for spreadsheets."""

import csv
import io
from collections.abc import Iterable

from d2lite.utils.event_files import drop_csv_rows_from
from d2lite.utils.events import NewScalars, PatientWriter, get_event_storage
from d2lite.utils.file_io import read_text
from d2lite.utils.writing import append, atomic_write


class CSVWriter(PatientWriter):
    """Writer of a CSV file, with the iteration and a column for each scalar.

    A new scalar adds a column, which is empty in earlier rows. When a run is resumed, rows of
    iterations that will be repeated are dropped.
    """

    def __init__(self, path: str, window_size: int = 20):
        """path: path of the file. window_size: iterations over which medians are taken."""
        self._path = path
        self._window_size = window_size
        self._new: NewScalars | None = None
        self._columns: list[str] = []
        self._rows: list[dict] = []  # not written yet

    def write(self) -> None:
        """Write one row for each iteration that has new scalars."""
        storage = get_event_storage()
        with self._trying():
            if self._new is None:
                self._go_on()
            for iteration, scalars in self._new.take(storage).items():
                # The header is one line.
                named = {" ".join(name.split()): value for name, value in scalars.items()}
                self._rows.append({"iteration": iteration, **named})
            self._write_rows()

    def write_last_again(self) -> None:
        """Drop the row of the iteration before the first one."""
        with self._trying():
            self._go_on(last_too=True)

    def _go_on(self, last_too: bool = False) -> None:
        start_iter = get_event_storage().start_iter
        last_written, self._columns = drop_csv_rows_from(start_iter, self._path, last_too=last_too)
        self._new = NewScalars(self._window_size, last_written)

    def _write_rows(self) -> None:
        names = dict.fromkeys(name for row in self._rows for name in row)
        added = [name for name in names if name not in self._columns]
        columns = [*self._columns, *added]
        if added:
            rows = csv.DictReader(io.StringIO(read_text(self._path))) if self._columns else ()
            with atomic_write(self._path, "w") as file:
                file.write(
                    _as_text(columns, [{name: name for name in columns}, *rows, *self._rows])
                )
        else:
            append(self._path, _as_text(columns, self._rows).encode())
        self._columns = columns
        self._rows.clear()

    def close(self) -> None:
        """Write the remaining rows.

        Raises:
            WriteError: there are rows that cannot be written.
        """
        if self._rows:
            self._write_rows()


def _as_text(columns: list[str], rows: Iterable[dict]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()
