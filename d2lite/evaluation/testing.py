"""Log results, and compare them with expected ones."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log the main metrics as lines of comma-separated values, to be copied into a spreadsheet.

    Args:
        results: {task: {metric: value}}. Metrics with a "-" in the name (those of single
            categories) are skipped.
    """
    if not isinstance(results, Mapping):
        if not results:  # as on processes other than the main one
            return
        raise TypeError(f"results must be a mapping task -> metrics, not {type(results).__name__}")
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info("copypaste: %s=%s", task, metrics)
            continue
        main = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(main))
        logger.info("copypaste: %s", ",".join(f"{value:.4f}" for value in main.values()))


def verify_results(cfg, results: Mapping[str, Mapping[str, float]]) -> bool:
    """Compare results with `cfg.TEST.EXPECTED_RESULTS`, rows of [task, metric, value, tolerance].

    Returns:
        True if all are within tolerance. Otherwise the differences are logged and the program exits
        with status 1.
    """
    expected = cfg.TEST.EXPECTED_RESULTS
    if not expected:
        return True
    failures = []
    for task, metric, value, tolerance in expected:
        found = results.get(task, {}).get(metric)
        if found is None:
            failures.append(
                f"{task}/{metric}: expected {value}, but the evaluation did not report it"
            )
        elif not np.isfinite(found) or abs(found - value) > tolerance:
            failures.append(f"{task}/{metric}: found {found:.4f}, expected {value} +- {tolerance}")
    if not failures:
        logger.info("Results verification passed.")
        return True
    logger.error("Result verification failed!\n  %s", "\n  ".join(failures))
    logger.error("Expected (TEST.EXPECTED_RESULTS): %s", expected)
    logger.error("Found: %s", flatten_results_dict(results))
    sys.exit(1)


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Join nested keys by slashes: {"bbox": {"AP": 1.0}} becomes {"bbox/AP": 1.0}."""
    flat: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}/{k}": v for k, v in flatten_results_dict(value).items()})
        else:
            flat[key] = value
    return flat
