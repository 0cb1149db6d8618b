"""Handle steps whose loss or gradients are not finite: report and save them, then stop or skip.

The cost of a normal step: losses are checked where they are fetched for the metrics anyway; the
states of the random generators are copied (a few microseconds), and so are buffers that have
changed (those of BatchNorm, in one call). Gradients are checked only with `check_gradients`, after
the losses have been fetched, so that the GPU is not waited for again.
"""

import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from d2lite.checkpoint.checkpointer import unwrap_model
from d2lite.config import CfgNode
from d2lite.engine.batch_values import to_plain
from d2lite.engine.replay import largest_gradients, save_step
from d2lite.utils import comm
from d2lite.utils.errors import ArgumentError
from d2lite.utils.event_storage import log_scalar
from d2lite.utils.random_state import RandomState
from d2lite.utils.writing import WriteError

logger = logging.getLogger(__name__)

FOLDER = "bad_steps"
ACTIONS = ("raise", "skip")
_SHOWN = 4  # images, gradients and parameters in a message
_ADVICE = (
    "Common causes: too high a SOLVER.BASE_LR or too short a warm-up; boxes without extent; "
    "float16 (try SOLVER.AMP.DTYPE bfloat16)"
)


class NonFiniteError(FloatingPointError):
    """A loss or gradient is not finite. All ranks raise it together.

    Attributes:
        ranks: the ranks on which it happened.
        in_time: whether it was raised in the current step, whose gradients are not applied yet.
    """

    in_time = True

    def __init__(self, message: str, ranks: list[int]) -> None:
        super().__init__(message)
        self.ranks = ranks

    @classmethod
    def of_losses(cls, iteration: int, per_rank: list[Mapping[str, float]]) -> "NonFiniteError":
        """Return the error for the losses of all ranks; it shows the first rank that failed."""
        ranks = [r for r, losses in enumerate(per_rank) if not math.isfinite(sum(losses.values()))]
        ranks = ranks or list(range(len(per_rank)))  # all finite, but not their sum
        where = f" on rank {ranks[0]}" if len(per_rank) > 1 else ""
        losses = ", ".join(f"{name} {value:.4g}" for name, value in per_rank[ranks[0]].items())
        return cls(f"The loss is not finite in iteration {iteration}{where}: {losses}", ranks)


class BadSteps:
    """Checker of training steps, which decides what to do if one is not finite.

    Call `begin` before the forward pass, `handle` if something was not finite, and `end` otherwise.
    Trainers have it as `bad_steps`; custom training loops can use it too.

    Attributes:
        num_skipped: number of skipped steps.
    """

    def __init__(self, output_dir: str = "", **settings: Any) -> None:
        """
        Args:
            output_dir: files are written to its folder `bad_steps`; "" writes none.
            settings: see `set_up`.
        """
        self.num_skipped = 0
        self._in_a_row = 0
        self._model: nn.Module | None = None
        self._batch: Any = None
        self._random: RandomState | None = None
        self.set_up(output_dir, **settings)

    def set_up(
        self,
        output_dir: str,
        *,
        action: str = "raise",
        check_gradients: bool = False,
        max_in_a_row: int = 10,
        keep: int = 3,
    ) -> None:
        """Change the settings.

        Args:
            output_dir: see the constructor.
            action: "raise" a FloatingPointError, or "skip" the step, which leaves the weights
                unchanged.
            check_gradients: check the gradients of each step, not only its losses. With float16 the
                GradScaler does so, and an overflowing gradient is not an error.
            max_in_a_row: maximum number of consecutive skipped steps; the next one is an error.
            keep: number of files to keep, the newest ones; 0 writes none.

        Raises:
            ArgumentError: the action is unknown, or a number negative.
        """
        if action not in ACTIONS:
            raise ArgumentError(
                f"SOLVER.BAD_STEPS.ACTION (bad_steps.action) is {action!r}; use 'raise' or 'skip'"
            )
        for name, value in (("MAX_IN_A_ROW", max_in_a_row), ("KEEP", keep)):
            if value < 0:
                raise ArgumentError(f"SOLVER.BAD_STEPS.{name} is {value}; it must be at least 0")
        self._folder = os.path.join(output_dir, FOLDER) if output_dir and keep else ""
        self._skips = action == "skip"
        self._checks_gradients = check_gradients
        self._max_in_a_row = max_in_a_row
        self._keep = keep

    def set_up_from(self, cfg: CfgNode) -> None:
        """Use SOLVER.BAD_STEPS, if the config has it, and OUTPUT_DIR."""
        settings = cfg.SOLVER.get("BAD_STEPS", {})
        self.set_up(cfg.OUTPUT_DIR, **{key.lower(): value for key, value in settings.items()})

    def begin(self, model: nn.Module, batch: Any) -> None:
        """Record the state before the step.

        Args:
            model: the model in training, with or without DDP.
            batch: input of the model.
        """
        if self._model is not model:
            self._model = model
            self._state = _ModelState(unwrap_model(model))
        self._state.note()
        # Copied, since models may add to the dicts.
        is_dicts = isinstance(batch, list) and all(isinstance(item, dict) for item in batch)
        self._batch = [dict(item) for item in batch] if is_dicts else batch
        self._random = RandomState.now(self._state.device)

    def end(self) -> None:
        """Record that the step was finite."""
        self._in_a_row = 0
        self._batch = None

    def check_gradients(self, model: nn.Module, iteration: int) -> None:
        """Check the gradients, if `check_gradients` is set; all ranks must call it together.

        Raises:
            NonFiniteError: a gradient is not finite.
        """
        if not self._checks_gradients:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        # Ten times as fast as checking each entry, but the squares of finite entries may overflow.
        norms = torch._foreach_norm(gradients, 2) if gradients else ()
        is_bad = bool(norms) and not math.isfinite(float(torch.stack(norms).sum()))
        is_bad = is_bad and not all(bool(torch.isfinite(grad).all()) for grad in gradients)
        if comm.max_over_ranks([int(is_bad)])[0]:
            raise NonFiniteError(
                f"The gradients are not finite in iteration {iteration}, though the loss is",
                list(range(comm.get_world_size())),
            )

    def handle(
        self,
        error: FloatingPointError,
        iteration: int,
        optimizer: Optimizer,
        *,
        scale: float = 1.0,
        about_trainer: Mapping[str, Any] | None = None,
    ) -> None:
        """Describe and save a step that is not finite; then raise an error, or return to skip it.

        If it returns, the changes of the forward pass to the model have been undone, and the caller
        must not apply the gradients.

        Args:
            error: the error that was raised.
            iteration: iteration of the step.
            optimizer: has not applied the gradients yet.
            scale: scale of the gradients, from a GradScaler.
            about_trainer: plain values for the file.

        Raises:
            FloatingPointError: the step can't or must not be skipped.
        """
        together = isinstance(error, NonFiniteError)
        if not getattr(error, "in_time", True):
            raise NonFiniteError(
                f"{error}. It was noticed only after the step, because async_write_metrics is on: "
                f"the step can be neither saved nor skipped. {_ADVICE}",
                error.ranks,
            )
        model = unwrap_model(self._model)
        # During the forward pass, gradients of the previous step may still be there.
        gradients = largest_gradients(model, scale) if together else []
        self._state.restore()
        broken = [n for n, p in model.named_parameters() if not torch.isfinite(p).all()]
        message = self._describe(error, iteration, gradients, broken)
        why_not = self._why_not_skipped(together, broken)
        kept = ""
        if ranks := self._of_ranks(error, together):
            step = {
                "iteration": iteration,
                "message": message,
                "world_size": comm.get_world_size(),
                "ranks": ranks,
                "model": model.state_dict(),
                "modules": self._state.modules(),
                "frozen": [n for n, p in model.named_parameters() if not p.requires_grad],
                "optimizer": optimizer.state_dict(),
                "trainer": dict(about_trainer or {}),
            }
            if hasattr(model, "built_from"):
                step["about"] = model.built_from.about()
            kept = self._save(step, None if together else comm.get_rank())
        if together:
            comm.synchronize()  # the launcher kills all processes when one ends
        self._batch = None
        if why_not is not None:
            message += why_not + kept
            if together:
                raise NonFiniteError(message, error.ranks) from None
            raise FloatingPointError(message) from error
        self.num_skipped += 1
        self._in_a_row += 1
        logger.warning("%s. The step is skipped (SOLVER.BAD_STEPS.ACTION)%s", message, kept)
        log_scalar("num_skipped_steps", self.num_skipped, smoothing_hint=False)

    def _describe(
        self,
        error: FloatingPointError,
        iteration: int,
        gradients: list[tuple[str, float]],
        broken: list[str],
    ) -> str:
        names = []
        if isinstance(self._batch, list) and all(isinstance(x, dict) for x in self._batch):
            names = [str(x.get("file_name", x.get("image_id", "?"))) for x in self._batch]
        if isinstance(error, NonFiniteError):
            parts = [str(error)]
            of_ranks = comm.all_gather(names)
            names = [name for rank in error.ranks for name in of_ranks[rank]]
        else:
            parts = [f"Iteration {iteration}: {str(error).rstrip('.')}"]
        if names:
            parts.append(f"Images: {_shorten(names)}")
        if broken:
            parts.append(
                f"{len(broken)} parameters were not finite before the step, so the problem began "
                f"in an earlier one: {_shorten(broken)}"
            )
        if gradients:
            shown = [f"{name} {value:.4g}" for name, value in gradients]
            count = sum(not math.isfinite(value) for _, value in gradients)
            parts.append(
                f"Largest gradients ({count} of {len(shown)} not finite): {_shorten(shown)}"
            )
        if isinstance(error, NonFiniteError):
            parts.append(_ADVICE)
        return ". ".join(parts)

    def _of_ranks(self, error: FloatingPointError, together: bool) -> dict[int, dict]:
        """Return the data of each rank that failed, by rank; {} if this rank writes no file."""
        if not self._folder:
            return {}
        rank = comm.get_rank()
        own = None
        if not together or rank in error.ranks:
            batch, lost = to_plain(self._batch)
            own = {"batch": batch, "lost": lost, "random": self._random.as_plain()}
        if not together:  # the other ranks don't know about it
            return {rank: own}
        return {r: its for r, its in enumerate(comm.gather(own)) if its is not None}

    def _save(self, step: dict[str, Any], rank: int | None) -> str:
        """Write the file of a step, and return a sentence about it for the message."""
        of_rank = "" if rank is None or step["world_size"] == 1 else f"_rank{rank}"
        path = os.path.join(self._folder, f"iter_{step['iteration']:07d}{of_rank}.pth")
        try:
            save_step(path, step)
        except (WriteError, TypeError) as error:
            return f". The step is not saved: {error}"
        kept = sorted(
            (os.stat(other.path).st_mtime_ns, other.path)
            for other in os.scandir(self._folder)
            if re.fullmatch(r"iter_\d{7,}(_rank\d+)?\.pth", other.name)
        )
        for _, old in kept[: -self._keep]:
            os.remove(old)
        return f". To replay it: python tools/replay_step.py {path}"

    def _why_not_skipped(self, together: bool, broken: list[str]) -> str | None:
        """Return why the step must raise an error, or None to skip it; equal on all ranks."""
        if not self._skips:
            return ""
        if not together and comm.get_world_size() > 1:
            return (
                ". It cannot be skipped, because only one of several processes noticed it, in the "
                "forward pass, and the others wait for that process"
            )
        if broken:
            return ". Skipping it would not help: resume from an earlier checkpoint"
        if self._in_a_row >= self._max_in_a_row:
            return (
                f". The {self._in_a_row} steps before it were already skipped "
                "(SOLVER.BAD_STEPS.MAX_IN_A_ROW)"
            )
        return None

    def state_dict(self) -> dict[str, int]:
        """Return the counts, or {} if there are none."""
        if not self.num_skipped:
            return {}
        return {"num_skipped": self.num_skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Load a state from `state_dict`."""
        self.num_skipped = state.get("num_skipped", 0)
        self._in_a_row = state.get("in_a_row", 0)


class _ModelState:
    """Copy of what a forward pass changes in a model: buffers, and other states of modules.

    Only buffers that may have changed since the last copy are copied, all in one call.
    """

    def __init__(self, model: nn.Module) -> None:
        parameter = next(model.parameters(), None)
        self.device = None if parameter is None else parameter.device
        # Done once, since iterating over the modules takes longer than all the rest.
        self._owners = [(m, name) for m in model.modules() for name in m._buffers]
        self._stateful = [
            (name, m) for name, m in model.named_modules() if hasattr(m, "training_state")
        ]
        self._versions: list[tuple[int, int] | None] = [None] * len(self._owners)
        self._copies: list[Tensor | None] = [None] * len(self._owners)
        self._modules: dict[str, Any] = {}

    def _changed(self) -> Iterator[tuple[int, Tensor]]:
        for index, (module, name) in enumerate(self._owners):
            buffer = module._buffers.get(name)
            if buffer is None:
                continue
            # BatchNorm kernels don't increase the version of its running statistics.
            uncounted = isinstance(module, _NormBase) and module.training
            if uncounted or self._versions[index] != (id(buffer), buffer._version):
                yield index, buffer

    @torch.no_grad()
    def note(self) -> None:
        """Copy the state."""
        into, out_of = [], []
        for index, buffer in self._changed():
            copy = self._copies[index]
            if copy is None or copy.shape != buffer.shape or copy.device != buffer.device:
                self._copies[index] = buffer.clone()
            else:
                into.append(copy)
                out_of.append(buffer)
            self._versions[index] = (id(buffer), buffer._version)
        if into:
            torch._foreach_copy_(into, out_of)
        self._modules = {name: module.training_state() for name, module in self._stateful}

    @torch.no_grad()
    def restore(self) -> None:
        """Undo all changes since `note`."""
        for index, buffer in self._changed():
            buffer.copy_(self._copies[index])
            self._versions[index] = (id(buffer), buffer._version)
        for name, module in self._stateful:
            module.load_training_state(self._modules[name])

    def modules(self) -> dict[str, Any]:
        """Return the states of modules besides their buffers, by name."""
        return self._modules


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
