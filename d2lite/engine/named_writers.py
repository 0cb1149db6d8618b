"""Writers that a config names, in addition to the default ones."""

import os
from collections.abc import Callable

import yaml

from d2lite.config import CfgNode
from d2lite.utils.csv_writer import CSVWriter
from d2lite.utils.events import EventWriter
from d2lite.utils.registry import check_choices
from d2lite.utils.run_trackers import MLflowWriter, WandbWriter

WRITERS: dict[str, Callable[[CfgNode], EventWriter]] = {
    "csv": lambda cfg: CSVWriter(os.path.join(cfg.OUTPUT_DIR, "metrics.csv")),
    "wandb": lambda cfg: WandbWriter(cfg.OUTPUT_DIR, yaml.safe_load(cfg.dump())),
    "mlflow": lambda cfg: MLflowWriter(cfg.OUTPUT_DIR, yaml.safe_load(cfg.dump())),
}


def build_named_writers(cfg: CfgNode) -> list[EventWriter]:
    """Build the writers that WRITERS names.

    Raises:
        ArgumentError: a name is unknown; the message suggests a similar one.
        ImportError: a writer's package is not installed.
    """
    check_choices("WRITERS", cfg.WRITERS, WRITERS)
    return [WRITERS[name](cfg) for name in cfg.WRITERS]
