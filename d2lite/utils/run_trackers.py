"""Writers to services that track the metrics of many runs: Weights & Biases, and MLflow.

The server, user and project are set by the environment variables of each service, such as
WANDB_PROJECT and WANDB_MODE, or MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME. A file in the
folder of the run stores its id, so that a resumed run continues there.
"""

import os
import re
import time
import uuid
from typing import Any

from d2lite.utils.event_storage import EventStorage
from d2lite.utils.events import EventWriter, NewScalars, PatientWriter, get_event_storage
from d2lite.utils.extras import import_extra
from d2lite.utils.file_io import read_text
from d2lite.utils.writing import WriteError, atomic_write

# Limit of one request to MLflow.
_MOST_METRICS = 1000


def _run_id(path: str, storage: EventStorage) -> str | None:
    """Return the id that the previous part of this run stored; None for a new run."""
    return read_text(path).strip() if storage.start_iter > 0 and os.path.isfile(path) else None


def _keep_id(path: str, run_id: str) -> None:
    with atomic_write(path, "w") as file:
        file.write(run_id)


class WandbWriter(EventWriter):
    """Writer of scalars to a run of Weights & Biases.

    A resumed run repeats the same values of some iterations, and the service ignores them.
    """

    def __init__(self, output_dir: str, config: dict | None = None, window_size: int = 20):
        """
        Args:
            output_dir: the folder of the run; the service shows the run under this folder's name.
            config: settings to show.
            window_size: iterations over which medians are taken.
        Raises:
            ImportError: wandb is not installed.
        """
        self._wandb = import_extra("wandb", "wandb", "WRITERS with 'wandb'")
        self._output_dir = output_dir
        self._config = config
        self._new = NewScalars(window_size, -1)
        self._run: Any = None

    def write(self) -> None:
        """Write everything new."""
        storage = get_event_storage()
        if self._run is None:
            path = os.path.join(self._output_dir, "wandb_run_id")
            run_id = _run_id(path, storage) or uuid.uuid4().hex[:8]
            self._run = self._wandb.init(
                dir=self._output_dir,
                id=run_id,
                resume="allow",
                name=os.path.basename(os.path.abspath(self._output_dir)),
                config=self._config,
            )
            _keep_id(path, run_id)
        for iteration, scalars in self._new.take(storage).items():
            self._run.log(scalars, step=iteration)

    def close(self) -> None:
        """Send what is left, and mark the run as finished."""
        if self._run is not None:
            self._run.finish()


class MLflowWriter(PatientWriter):
    """Writer of scalars to a run of MLflow.

    Each iteration is written once, even if the run is resumed. Values that the server does not
    accept are kept and tried again.
    """

    def __init__(self, output_dir: str, config: dict | None = None, window_size: int = 20):
        """
        Args:
            output_dir: the folder of the run; the service shows the run under this folder's name.
            config: settings to keep with the run, as the artifact config.json.
            window_size: iterations over which medians are taken.
        Raises:
            ImportError: mlflow is not installed.
        """
        self._mlflow = import_extra("mlflow", "mlflow", "WRITERS with 'mlflow'")
        self._output_dir = output_dir
        self._config = config
        self._window_size = window_size
        self._new: NewScalars | None = None
        self._pending: list = []

    def write(self) -> None:
        """Write everything new."""
        storage = get_event_storage()
        if self._new is None:
            self._start(storage)
        now = round(time.time() * 1000)
        for iteration, scalars in self._new.take(storage).items():
            self._pending += [
                self._mlflow.entities.Metric(_allowed(name), value, now, iteration)
                for name, value in scalars.items()
            ]
        with self._trying():
            self._send()

    def _start(self, storage: EventStorage) -> None:
        self._client = self._mlflow.MlflowClient()
        path = os.path.join(self._output_dir, "mlflow_run_id")
        run_id = _run_id(path, storage)
        if run_id is None:
            experiment = os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
            if experiment_name := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
                found = self._client.get_experiment_by_name(experiment_name)
                create = self._client.create_experiment
                experiment = found.experiment_id if found else create(experiment_name)
            name = os.path.basename(os.path.abspath(self._output_dir))
            run_id = self._client.create_run(experiment, run_name=name).info.run_id
            _keep_id(path, run_id)
            if self._config is not None:
                self._client.log_dict(run_id, self._config, "config.json")
        else:
            self._client.update_run(run_id, status="RUNNING")
        self._id = run_id
        written = {
            name: max(m.step for m in self._client.get_metric_history(run_id, name))
            for name in self._client.get_run(run_id).data.metrics
        }
        by_name = {name: written.get(_allowed(name), -1) for name in storage.latest()}
        self._new = NewScalars(self._window_size, -1, by_name | written)

    def _send(self) -> None:
        """Send pending values; raises a WriteError if the server does not accept them."""
        while self._pending:
            try:
                self._client.log_batch(self._id, metrics=self._pending[:_MOST_METRICS])
            except Exception as error:  # of the network, the server, or a database
                raise WriteError(f"MLflow run {self._id}", OSError(str(error))) from error
            del self._pending[:_MOST_METRICS]

    def close(self) -> None:
        """Send what is left, and mark the run as finished.

        Raises:
            WriteError: there are values that the server does not accept.
        """
        if self._new is not None:
            self._send()
            self._client.set_terminated(self._id)


def _allowed(name: str) -> str:
    """Return a name with only the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /:]", "_", name)
