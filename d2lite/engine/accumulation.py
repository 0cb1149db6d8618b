"""Gradient accumulation: one iteration whose batch goes through the model in several parts."""

from typing import Any


def split_batch(batch: Any, num_parts: int) -> list[tuple[Any, float]]:
    """Divide a batch into parts that go through the model one after the other.

    Args:
        batch: a list of samples; anything if `num_parts` is 1.
        num_parts: at least 1. A batch of fewer samples has as many parts as samples.
    Returns:
        The parts, in order and of sizes that differ by at most one, each with its share of the
        samples, in (0, 1]. Mean losses, times these shares, add up to the mean of the whole batch.
    Raises:
        TypeError: the batch is not a list.
    """
    if num_parts == 1:
        return [(batch, 1.0)]
    if not isinstance(batch, (list, tuple)):
        raise TypeError(
            f"SOLVER.ACCUMULATE_STEPS is {num_parts}, which needs batches that are lists of "
            f"samples, but the data loader returns a {type(batch).__name__}; set it to 1"
        )
    num_parts = max(1, min(num_parts, len(batch)))
    ends = [len(batch) * (index + 1) // num_parts for index in range(num_parts)]
    parts = [batch[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [(part, len(part) / len(batch) if batch else 1.0) for part in parts]
