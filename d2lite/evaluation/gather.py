"""Gather the predictions of all processes, and save them."""

import itertools
import os
from typing import Any

import torch

from d2lite.evaluation.result_files import save_results
from d2lite.utils import comm


def gather_predictions(predictions: list, distributed: bool) -> list | None:
    """Return the predictions of all processes on the main process; None on the others.

    Without `distributed`, every process keeps its own.
    """
    if not distributed:
        return predictions
    comm.synchronize()
    gathered = comm.gather(predictions, dst=0)
    if not comm.is_main_process():
        return None
    return list(itertools.chain.from_iterable(gathered))


def save_predictions(predictions: Any, output_dir: str) -> None:
    """Save all predictions to `instances_predictions.pth`, for later analysis."""
    path = os.path.join(output_dir, "instances_predictions.pth")
    save_results(path, lambda file: torch.save(predictions, file))
