"""Steps whose loss or gradients are not finite: tell what is known, keep them, stop or go on.

What it costs while all is well: the losses are looked at where they are fetched for the metrics
anyway; the states of the random generators are copied (a few microseconds) and so are buffers that
have changed (BatchNorm's, by one call); gradients are looked at only if `check_gradients` asks for
it, after the losses were fetched, so that no GPU is waited for once more.
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
        ranks: those on which it happened.
        in_time: whether it is the current step's, whose gradients are not applied yet.
    """

    in_time = True

    def __init__(self, message: str, ranks: list[int]) -> None:
        super().__init__(message)
        self.ranks = ranks

    @classmethod
    def of_losses(cls, iteration: int, per_rank: list[Mapping[str, float]]) -> "NonFiniteError":
        """Return the error of the losses of all ranks; the first of those at fault is shown."""
        ranks = [r for r, losses in enumerate(per_rank) if not math.isfinite(sum(losses.values()))]
        ranks = ranks or list(range(len(per_rank)))  # finite ones, whose sum is not
        where = f" on rank {ranks[0]}" if len(per_rank) > 1 else ""
        losses = ", ".join(f"{name} {value:.4g}" for name, value in per_rank[ranks[0]].items())
        return cls(f"The loss is not finite in iteration {iteration}{where}: {losses}", ranks)


class BadSteps:
    """Watches the steps of a training, and decides about those that are not finite.

    `begin` is called before the forward pass, `handle` when something was not finite, `end` when
    all was well. A trainer has one as `bad_steps`; a loop of one's own can use it alike.

    Attributes:
        num_skipped: steps that were left out.
    """

    def __init__(self, output_dir: str = "", **settings: Any) -> None:
        """
        Args:
            output_dir: its folder `bad_steps` gets the files; "": none are written.
            settings: of `set_up`.
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
            output_dir: as of the constructor.
            action: "raise" a FloatingPointError, or "skip": the weights stay as they are.
            check_gradients: look at the gradients of each step, and not at its losses alone. With
                float16 the GradScaler does so, and a gradient that overflows is no fault.
            max_in_a_row: so many steps are skipped one after the other; the next one is an error.
            keep: files of steps that are kept, the newest; 0 writes none.

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
        """Take the settings of SOLVER.BAD_STEPS, if a config has them, and its OUTPUT_DIR."""
        settings = cfg.SOLVER.get("BAD_STEPS", {})
        self.set_up(cfg.OUTPUT_DIR, **{key.lower(): value for key, value in settings.items()})

    def begin(self, model: nn.Module, batch: Any) -> None:
        """Remember what the step will change, and what it starts from.

        Args:
            model: the trained one, in DDP or not.
            batch: what it is called with.
        """
        if self._model is not model:
            self._model = model
            self._state = _ModelState(unwrap_model(model))
        self._state.note()
        # Models may add to the dicts.
        is_dicts = isinstance(batch, list) and all(isinstance(item, dict) for item in batch)
        self._batch = [dict(item) for item in batch] if is_dicts else batch
        self._random = RandomState.now(self._state.device)

    def end(self) -> None:
        """Note that the step was sound."""
        self._in_a_row = 0
        self._batch = None

    def check_gradients(self, model: nn.Module, iteration: int) -> None:
        """Look at the gradients, if `check_gradients` is set; all ranks call it together.

        Raises:
            NonFiniteError: one of them is not finite.
        """
        if not self._checks_gradients:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        # Ten times as fast as a look at each entry; squares of finite ones may be infinite, though.
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
        """Tell what is known of a step that is not finite, keep it, and raise or return.

        If it returns, the step is to be left out: what the forward pass changed of the model is
        undone, and the caller applies no gradients.

        Args:
            error: what was raised.
            iteration: of the step.
            optimizer: its gradients are not applied yet.
            scale: the factor on the gradients, of a GradScaler.
            about_trainer: plain values for the file.

        Raises:
            FloatingPointError: this is not to be skipped.
        """
        together = isinstance(error, NonFiniteError)
        if not getattr(error, "in_time", True):
            raise NonFiniteError(
                f"{error}. It was noticed when the step was over, as async_write_metrics is on: "
                f"the step can be neither kept nor skipped. {_ADVICE}",
                error.ranks,
            )
        model = unwrap_model(self._model)
        # Within the forward pass, there may be those of the step before.
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
            comm.synchronize()  # whoever starts the processes ends all when one of them ends
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
                f"{len(broken)} parameters are not finite before the step, so that it began in an "
                f"earlier one: {_shorten(broken)}"
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
        """Return what each rank at fault has of its own, by rank; {} where this one writes no
        file."""
        if not self._folder:
            return {}
        rank = comm.get_rank()
        own = None
        if not together or rank in error.ranks:
            batch, lost = to_plain(self._batch)
            own = {"batch": batch, "lost": lost, "random": self._random.as_plain()}
        if not together:  # the others know nothing of it
            return {rank: own}
        return {r: its for r, its in enumerate(comm.gather(own)) if its is not None}

    def _save(self, step: dict[str, Any], rank: int | None) -> str:
        """Write the file of a step; returns what to say of it."""
        of_rank = "" if rank is None or step["world_size"] == 1 else f"_rank{rank}"
        path = os.path.join(self._folder, f"iter_{step['iteration']:07d}{of_rank}.pth")
        try:
            save_step(path, step)
        except (WriteError, TypeError) as error:
            return f". It is not kept: {error}"
        kept = sorted(
            (os.stat(other.path).st_mtime_ns, other.path)
            for other in os.scandir(self._folder)
            if re.fullmatch(r"iter_\d{7,}(_rank\d+)?\.pth", other.name)
        )
        for _, old in kept[: -self._keep]:
            os.remove(old)
        return f". To do it again: python tools/replay_step.py {path}"

    def _why_not_skipped(self, together: bool, broken: list[str]) -> str | None:
        """Why the step is an error, None if it is skipped; all ranks find the same."""
        if not self._skips:
            return ""
        if not together and comm.get_world_size() > 1:
            return (
                ". It cannot be skipped, since it was noticed by one of several processes within "
                "the forward pass, after which the others wait for it"
            )
        if broken:
            return ". Skipping it would not help: go on from an earlier checkpoint"
        if self._in_a_row >= self._max_in_a_row:
            return (
                f". {self._in_a_row} steps before it were skipped one after the other "
                "(SOLVER.BAD_STEPS.MAX_IN_A_ROW)"
            )
        return None

    def state_dict(self) -> dict[str, int]:
        """Return the counts, {} while there are none."""
        if not self.num_skipped:
            return {}
        return {"num_skipped": self.num_skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Load a state from `state_dict`."""
        self.num_skipped = state.get("num_skipped", 0)
        self._in_a_row = state.get("in_a_row", 0)


class _ModelState:
    """What a forward pass changes of a model: buffers, and states of modules beside them.

    Only buffers that may have changed since the last time are copied, all in one call.
    """

    def __init__(self, model: nn.Module) -> None:
        parameter = next(model.parameters(), None)
        self.device = None if parameter is None else parameter.device
        # Walking through a model takes longer than all the rest.
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
            # The kernels of BatchNorm do not count its running statistics up.
            uncounted = isinstance(module, _NormBase) and module.training
            if uncounted or self._versions[index] != (id(buffer), buffer._version):
                yield index, buffer

    @torch.no_grad()
    def note(self) -> None:
        """Take copies."""
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
        """Return the states of modules beside their buffers, by name."""
        return self._modules


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
