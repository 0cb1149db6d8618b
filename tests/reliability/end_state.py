"""Everything that a training leaves in its folder, in a form that can be compared."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["differences", "end_state"]

# What measures time, and settings that may differ between the runs of one training.
_TIMES = ("time", "data_time", "rank_data_time", "eta_seconds")
_FREE_SETTINGS = (("OUTPUT_DIR",), ("DATALOADER", "NUM_WORKERS"))
# Each start of the program adds to or replaces these. A start without any checkpoint moves the
# metrics of the former one to `previous_run`.
_LOGS = ("log.txt", "config.yaml", "run.lock", "events.out.tfevents", "previous_run/")


def end_state(folder: Path) -> dict[str, Any]:
    """All checkpoints, metrics.json, the scalars of TensorBoard, and the names of all files."""
    state: dict[str, Any] = {path.name: _checkpoint(path) for path in sorted(folder.glob("*.pth"))}
    lines = (folder / "metrics.json").read_text(encoding="utf-8").splitlines()
    values = [_without_times(json.loads(line)) for line in lines]
    # The first iterations of a start are not measured, so the time of an earlier one may come late.
    state["metrics.json"] = [line for line in values if line.keys() != {"iteration"}]
    if (folder / "metrics.csv").exists():
        with open(folder / "metrics.csv", encoding="utf-8") as file:
            rows = [_without_times(row) for row in csv.DictReader(file)]
        filled = [{name: value for name, value in row.items() if value} for row in rows]
        state["metrics.csv"] = [row for row in filled if row.keys() != {"iteration"}]
    state["TensorBoard"] = _tensorboard_scalars(folder)
    for name in ("model_best.json", "last_checkpoint"):
        path = folder / name
        state[name] = path.read_text(encoding="utf-8") if path.exists() else None
    state["files"] = sorted(
        name
        for path in folder.rglob("*")
        if path.is_file() and not (name := str(path.relative_to(folder))).startswith(_LOGS)
    )
    return state


def _checkpoint(path: Path) -> dict[str, Any]:
    content = torch.load(path, weights_only=True)
    if "trainer" in content:
        content["trainer"]["storage"] = _without_times(content["trainer"]["storage"])
    for *nodes, key in _FREE_SETTINGS:
        config = content["about"]["config"]
        for node in nodes:
            config = config[node]
        del config[key]
    return content


def _without_times(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _TIMES}


def _tensorboard_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By tag (step, value) in the order of the files and of their records."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                # The loader has made tensors of the scalars.
                number = value.tensor.float_val[0] if value.tensor.float_val else value.simple_value
                found.setdefault(value.tag, []).append((event.step, number))
    return dict(sorted(_without_times(found).items()))


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """Where two states differ, in words; tensors are compared bit by bit."""
    if isinstance(expected, torch.Tensor):
        same = (
            isinstance(found, torch.Tensor)
            and expected.dtype == found.dtype
            and expected.shape == found.shape
            and np.array_equal(_bits(expected), _bits(found))
        )
        return [] if same else [f"{where}: tensors differ"]
    if type(expected) is not type(found):
        return [f"{where}: {type(expected).__name__} against {type(found).__name__}"]
    if isinstance(expected, dict):
        told = []
        for key in expected.keys() ^ found.keys():
            side = "one left alone" if key in expected else "killed one"
            told.append(f"{where}[{key!r}] is only in the {side}")
        for key in expected.keys() & found.keys():
            told += differences(expected[key], found[key], f"{where}[{key!r}]")
        return told
    if isinstance(expected, list | tuple):
        if len(expected) != len(found):
            return [
                f"{where}: {len(expected)} against {len(found)}",
                *(f"  only in the one left alone: {one}" for one in expected if one not in found),
                *(f"  only in the killed one: {one}" for one in found if one not in expected),
            ]
        told = []
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            told += differences(one, other, f"{where}[{index}]")
        return told
    return [] if expected == found else [f"{where}: {expected!r} against {found!r}"]


def _bits(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().flatten().view(torch.uint8).numpy()
