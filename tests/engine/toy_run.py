"""Trainings of the toy (`tests/reliability/toy.py`) within a test."""

import json

from d2lite.config import CfgNode, get_cfg
from tests.reliability import toy


def toy_cfg(output_dir, **changes) -> CfgNode:
    """The config of a run in `output_dir`; `SOLVER__MAX_ITER=4` changes SOLVER.MAX_ITER."""
    toy.register_data()
    settings = {**toy.SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
    cfg = get_cfg()
    cfg.merge_from_list([part for pair in settings.items() for part in pair])
    cfg.OUTPUT_DIR = str(output_dir)
    return cfg


def toy_trainer(output_dir, *, resume: bool = False, **changes) -> toy.ToyTrainer:
    """A trainer of such a config, that is ready to train."""
    trainer = toy.ToyTrainer(toy_cfg(output_dir, **changes))
    trainer.resume_or_load(resume=resume)
    return trainer


def metrics_of(folder) -> dict[str, dict[int, float]]:
    """Return the values of metrics.json by name, then by iteration."""
    found: dict[str, dict[int, float]] = {}
    for line in (folder / "metrics.json").read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        iteration = values.pop("iteration")
        for name, value in values.items():
            found.setdefault(name, {})[iteration] = value
    return found
