"""Weights & Biases and MLflow: with modules that record what is called, and with the real ones in
their offline modes where they are installed."""

import json
import sys
import time
import types

import pytest

from d2lite.utils.events import EventStorage
from d2lite.utils.run_trackers import MLflowWriter, WandbWriter
from d2lite.utils.writing import WriteError
from tests.engine.toy_run import toy_trainer


class FakeWandb(types.ModuleType):
    """Keeps runs by id, as the service does."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.logged, self.finished = [], {}, []

    def init(self, **arguments):
        self.started.append(arguments)
        run = types.SimpleNamespace()
        run.log = lambda values, step: self.logged.setdefault(arguments["id"], []).append(
            (step, values)
        )
        run.finish = lambda: self.finished.append(arguments["id"])
        return run


class FakeMlflow(types.ModuleType):
    """A client and its server in one."""

    def __init__(self):
        super().__init__("mlflow")
        self.entities = types.SimpleNamespace(
            Metric=lambda key, value, timestamp, step: types.SimpleNamespace(
                key=key, value=value, timestamp=timestamp, step=step
            )
        )
        self.runs, self.experiments, self.down = {}, {}, False
        self.MlflowClient = lambda: self

    def get_experiment_by_name(self, name):
        found = self.experiments.get(name)
        return found and types.SimpleNamespace(experiment_id=found)

    def create_experiment(self, name):
        self.experiments[name] = f"id of {name}"
        return self.experiments[name]

    def create_run(self, experiment_id, run_name):
        run = types.SimpleNamespace(metrics=[], status="RUNNING", artifacts={})
        run.experiment, run.name = experiment_id, run_name
        self.runs[str(len(self.runs))] = run
        info = types.SimpleNamespace(run_id=str(len(self.runs) - 1))
        return types.SimpleNamespace(info=info)

    def update_run(self, run_id, status):
        self.runs[run_id].status = status

    def set_terminated(self, run_id):
        self.runs[run_id].status = "FINISHED"

    def log_dict(self, run_id, dictionary, artifact_file):
        self.runs[run_id].artifacts[artifact_file] = dictionary

    def log_batch(self, run_id, metrics):
        if self.down:
            raise ConnectionError("no route to host")
        assert len(metrics) <= 1000
        self.runs[run_id].metrics += metrics

    def get_run(self, run_id):
        names = {m.key: m.value for m in self.runs[run_id].metrics}
        return types.SimpleNamespace(data=types.SimpleNamespace(metrics=names))

    def get_metric_history(self, run_id, key):
        return [m for m in self.runs[run_id].metrics if m.key == key]


@pytest.fixture
def wandb(monkeypatch):
    module = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.fixture
def mlflow(monkeypatch):
    module = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", module)
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    return module


def write(writer, iterations, start=0):
    with EventStorage(start) as storage:
        for storage.iter in iterations:
            storage.put_scalar("loss", storage.iter / 4, smoothing_hint=False)
            storage.put_scalar("[metric]scale", 1.0)
            writer.write()
    writer.close()


def test_wandb_gets_the_scalars_of_each_iteration_under_one_id(tmp_path, wandb):
    folder = tmp_path / "cells-3"
    folder.mkdir()
    write(WandbWriter(str(folder), {"SEED": 3}), range(2))
    (started,) = wandb.started
    assert started["name"] == "cells-3" and started["config"] == {"SEED": 3}
    assert wandb.logged[started["id"]] == [
        (0, {"loss": 0.0, "[metric]scale": 1.0}),
        (1, {"loss": 0.25, "[metric]scale": 1.0}),
    ]
    write(WandbWriter(str(folder)), range(1, 3), start=1)  # it is resumed
    assert wandb.started[1]["id"] == started["id"] and wandb.started[1]["resume"] == "allow"
    write(WandbWriter(str(folder)), range(1))  # a new run
    assert wandb.started[2]["id"] != started["id"]
    assert wandb.finished == [x["id"] for x in wandb.started]


def test_mlflow_gets_each_iteration_once_also_of_a_resumed_run(tmp_path, mlflow, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "cells")
    write(MLflowWriter(str(tmp_path), {"SEED": 3}), range(3))
    (run,) = mlflow.runs.values()
    assert run.experiment == "id of cells" and run.name == tmp_path.name
    assert run.artifacts == {"config.json": {"SEED": 3}} and run.status == "FINISHED"
    write(MLflowWriter(str(tmp_path)), range(1, 5), start=1)
    for name in ("loss", "_metric_scale"):
        assert [m.step for m in run.metrics if m.key == name] == [0, 1, 2, 3, 4]
    assert [m.value for m in run.metrics if m.key == "loss"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert len(mlflow.runs) == 1
    write(MLflowWriter(str(tmp_path)), range(1))
    assert len(mlflow.runs) == 2


def test_mlflow_keeps_what_a_server_that_is_down_does_not_take(tmp_path, mlflow, caplog):
    writer = MLflowWriter(str(tmp_path))
    with EventStorage() as storage:
        for storage.iter in range(4):
            mlflow.down = storage.iter in (1, 2)
            storage.put_scalar("loss", 1.0)
            writer.write()
        assert [m.step for m in mlflow.runs["0"].metrics] == [0, 1, 2, 3]
        mlflow.down = True
        storage.put_scalars(**{f"x{i}": 1.0 for i in range(1500)})
        storage.iter = 5
        writer.write()
    with pytest.raises(WriteError, match="MLflow run 0 cannot be written: no route to host"):
        writer.close()
    mlflow.down = False
    writer.close()
    assert len(mlflow.runs["0"].metrics) == 4 + 1500
    assert caplog.text.count("no route to host") == 2


def test_a_training_writes_to_all_of_them(tmp_path, wandb, mlflow):
    trainer = toy_trainer(tmp_path, WRITERS=("csv", "wandb", "mlflow"), SOLVER__MAX_ITER=3)
    trainer.train()
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    expected = {json.loads(line)["iteration"]: json.loads(line)["total_loss"] for line in lines[:1]}
    ((step, values), *_) = wandb.logged[wandb.started[0]["id"]]
    assert expected == {step: values["total_loss"]}
    assert wandb.started[0]["config"]["SOLVER"]["MAX_ITER"] == 3
    losses = [m for m in mlflow.runs["0"].metrics if m.key == "total_loss"]
    assert {m.step: m.value for m in losses} == expected
    header, row, *_ = (tmp_path / "metrics.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert {int(cells["iteration"]): float(cells["total_loss"])} == expected


def test_the_real_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    write(WandbWriter(str(tmp_path), {"SEED": 3}), range(3))
    run_id = (tmp_path / "wandb_run_id").read_text()
    (file,) = (tmp_path / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb")
    deadline = time.monotonic() + 20  # the service writes it a little later
    while b"loss" not in file.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b"loss" in file.read_bytes()
    write(WandbWriter(str(tmp_path)), range(1, 4), start=1)
    assert (tmp_path / "wandb_run_id").read_text() == run_id


def test_the_real_mlflow_in_a_folder(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "cells")
    run_folder = tmp_path / "cells-1"
    run_folder.mkdir()
    write(MLflowWriter(str(run_folder), {"SEED": 3}), range(3))
    write(MLflowWriter(str(run_folder)), range(1, 5), start=1)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("cells")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "cells-1" and run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(k, k / 4) for k in range(5)]
