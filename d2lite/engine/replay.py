"""Save a training step to a file, and replay it."""

import contextlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from d2lite.checkpoint.checkpointer import to_tensors
from d2lite.checkpoint.reading import CheckpointFileError, read_checkpoint_file
from d2lite.checkpoint.writing import save_checkpoint_file
from d2lite.engine.accumulation import split_batch
from d2lite.engine.batch_values import from_plain
from d2lite.utils.events import EventStorage
from d2lite.utils.random_state import RandomState
from d2lite.utils.writing import naming_write_errors

_KIND = "d2lite step"
_ENTRIES = {
    "iteration": int,
    "message": str,
    "ranks": dict,
    "model": dict,
    "modules": dict,
    "frozen": list,
    "optimizer": dict,
    "trainer": dict,
}
_OF_RANK = {"batch", "lost", "random"}


def largest_gradients(model: nn.Module, scale: float = 1.0) -> list[tuple[str, float]]:
    """Return names and largest gradient entries, divided by `scale`, of all parameters that have
    gradients: first those that are not finite, then in descending order."""
    named = [
        (name, p.grad.detach().to_dense() if p.grad.is_sparse else p.grad.detach())
        for name, p in model.named_parameters()
        if p.grad is not None and p.grad.numel()
    ]
    if not named:
        return []
    largest = torch.stack([gradient.abs().amax().float() for _, gradient in named]) / scale
    found = [(name, value) for (name, _), value in zip(named, largest.tolist(), strict=True)]
    # NaNs, which cannot be compared, are as large as infinity.
    return sorted(
        found,
        key=lambda item: (math.isfinite(item[1]), -math.inf if math.isnan(item[1]) else -item[1]),
    )


def save_step(path: str, step: Mapping[str, Any]) -> None:
    """Write the file of a step atomically.

    Args:
        path: its folder is created if necessary.
        step: plain values, with the entries of `read_step`.

    Raises:
        WriteError: the file can't be written.
    """
    with naming_write_errors(path):
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    save_checkpoint_file({"kind": _KIND, **step}, path)


def read_step(path: str) -> dict[str, Any]:
    """Read the file of a step; nothing in it is imported or executed.

    Returns:
        "iteration", "message" (of the error in training), "world_size", "ranks" (by rank "batch",
        "random" and "lost", the kinds of objects that the batch lacks), "model", "optimizer",
        "modules" (states of modules besides their weights), "frozen" (names of parameters),
        "trainer" ("precision" and "scale", of mixed precision, and "accumulate_steps") and, if
        the model has it, "about", as in a checkpoint.

    Raises:
        CheckpointFileError: the file is damaged, or not the file of a step.
    """
    step = read_checkpoint_file(path)
    if not isinstance(step, dict) or step.get("kind") != _KIND:
        raise CheckpointFileError(
            f"{path} is not the file of a step; training writes them into OUTPUT_DIR/bad_steps"
        )
    for key, kind in _ENTRIES.items():
        if not isinstance(step.get(key), kind):
            raise CheckpointFileError(f"{path} is damaged: {key!r} is not of type {kind.__name__}")
    for rank, of_rank in step["ranks"].items():
        if not isinstance(of_rank, dict) or not set(of_rank) >= _OF_RANK:
            raise CheckpointFileError(f"{path} is damaged: rank {rank} lacks its batch")
        try:
            of_rank["batch"] = from_plain(of_rank["batch"])
            of_rank["random"] = RandomState.from_plain(of_rank["random"])
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
            raise CheckpointFileError(f"{path} is damaged: batch of rank {rank}: {error}") from None
    return step


@dataclass
class Replay:
    """Result of a replayed step.

    Attributes:
        losses: by name.
        gradients: (parameter name, largest entry), those that are not finite first.
        error: the error raised by the model, or None.
        is_scaled: whether gradients may overflow, as with a GradScaler.
    """

    losses: dict[str, float] = field(default_factory=dict)
    gradients: list[tuple[str, float]] = field(default_factory=list)
    error: Exception | None = None
    is_scaled: bool = False

    @property
    def is_bad(self) -> bool:
        """Return whether a loss or gradient is not finite, or the model raised an error."""
        gradients = [] if self.is_scaled else [value for _, value in self.gradients]
        values = [*self.losses.values(), *gradients]
        return self.error is not None or not all(map(math.isfinite, values))


def load_state(model: nn.Module, step: Mapping[str, Any]) -> None:
    """Load the state of the model before the step.

    Raises:
        RuntimeError: the weights belong to another model.
    """
    model.load_state_dict(to_tensors(step["model"]))
    modules = dict(model.named_modules())
    for name, state in step["modules"].items():
        modules[name].load_training_state(state)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in step["frozen"])
    model.train()


def replay_step(
    model: nn.Module, step: Mapping[str, Any], rank: int, *, detect_anomaly: bool = False
) -> Replay:
    """Repeat the forward and backward pass of a step with its random numbers; update no weights.

    Args:
        model: built as in training, on any device.
        step: from `read_step`.
        rank: rank whose batch is used.
        detect_anomaly: let torch find the operation whose gradient is NaN.
    """
    load_state(model, step)
    of_rank, scale = step["ranks"][rank], float(step["trainer"].get("scale", 1.0))
    device = next(model.parameters()).device
    precision: contextlib.AbstractContextManager = contextlib.nullcontext()
    if name := step["trainer"].get("precision", ""):
        # CPUs do not compute in float16.
        dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16}[name]
        dtype = torch.bfloat16 if device.type == "cpu" else dtype
        precision = torch.autocast(device.type, dtype)
    model.zero_grad()
    replay = Replay(is_scaled=scale != 1.0)
    of_rank["random"].restore(device)
    try:
        with EventStorage(step["iteration"]), torch.autograd.set_detect_anomaly(detect_anomaly):
            num_parts = int(step["trainer"].get("accumulate_steps", 1))
            for part, share in split_batch(of_rank["batch"], num_parts):
                with precision:
                    losses = model(part)
                losses = {"total_loss": losses} if isinstance(losses, torch.Tensor) else losses
                for name, loss in losses.items():
                    value = float(loss.detach()) * share
                    replay.losses[name] = replay.losses.get(name, 0.0) + value
                (sum(losses.values()) * share * scale).backward()
    except (FloatingPointError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not detect_anomaly:
            raise
        replay.error = error
    replay.gradients = largest_gradients(model, scale)
    return replay
