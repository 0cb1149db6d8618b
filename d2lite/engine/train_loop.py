"""The training loop: a trainer that runs steps, and hooks that run around them."""

import concurrent.futures
import contextlib
import logging
import signal
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from d2lite.checkpoint.resuming import optimizer_layout, require_same_optimizer
from d2lite.data.worker_deaths import telling_worker_deaths
from d2lite.engine.accumulation import split_batch
from d2lite.engine.bad_steps import BadSteps, NonFiniteError
from d2lite.engine.step_metrics import put_metrics
from d2lite.utils import comm
from d2lite.utils.events import EventStorage, get_event_storage
from d2lite.utils.logger import FILE_ONLY
from d2lite.utils.periods import is_due, is_last
from d2lite.utils.stop_signals import StopRequested, StopSignals
from d2lite.utils.writing import WriteError

logger = logging.getLogger(__name__)


class HookBase:
    """Base class of the hooks, which run around the training steps.

    A trainer calls its hooks in the order in which they were registered::

        hook.before_train()
        for iter in range(start_iter, max_iter):
            hook.before_step()
            trainer.run_step()      # calls hook.after_backward() between backward and update
            hook.after_step()
        hook.after_train()          # also after a step that failed

    `self.trainer` is the trainer; most hooks need its `iter`, `start_iter`, `max_iter` and
    `storage`.
    """

    trainer: "TrainerBase" = None

    def before_train(self) -> None:
        """Run once, before the first step."""

    def after_train(self) -> None:
        """Run once, after the last step or a failure."""

    def before_step(self) -> None:
        """Run before each step."""

    def after_backward(self) -> None:
        """Run in each step, between the backward pass and the update."""

    def after_step(self) -> None:
        """Run after each step."""

    def before_stop(self) -> None:
        """Run on all ranks when a signal ends training after this step, before the checkpoint is
        saved."""

    def save_now(self) -> None:
        """Save a checkpoint now because of a signal, if this hook saves checkpoints."""

    def resume_state(self) -> dict:
        """Return what a run needs besides `state_dict` to resume exactly. It is stored separately,
        because the same hooks have no `state_dict` in detectron2."""
        return {}

    def load_resume_state(self, state: dict) -> None:
        """Load a state from `resume_state`."""

    def state_dict(self) -> dict:
        """Return the state to store in checkpoints: tensors, numbers, strings, containers.

        A hook with a state also defines `load_state_dict(state)`.
        """
        return {}


class TrainerBase:
    """Base class of iterative trainers with hooks. Subclasses define `run_step`.

    Attributes:
        iter: the current iteration, from 0. After a completed `train` it equals `max_iter`.
        start_iter, max_iter: iterations run while start_iter <= iter < max_iter. `stop` lowers
            `max_iter` to the end of the current iteration.
        stopped: whether `stop` was called.
        storage: the EventStorage that is open during training.
    """

    # Class attributes, since subclasses may skip our constructor and run their own loops.
    stopped = False
    _failed = False
    _left = False  # whether a signal ended training, with a checkpoint
    _hooks_reached = 0  # number of hooks whose `after_step` has run in this iteration
    _storage_state: dict | None = None

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter: int = 0
        self.start_iter: int = 0
        self.max_iter: int
        self.storage: EventStorage

    def register_hooks(self, hooks: Iterable[HookBase | None]) -> None:
        """Append hooks to those already registered; None entries are skipped."""
        for hook in hooks:
            if hook is None:
                continue
            assert isinstance(hook, HookBase), f"{hook!r} is not a HookBase"
            # A strong reference would be a cycle that keeps model and data alive.
            hook.trainer = weakref.proxy(self)
            self._hooks.append(hook)

    @telling_worker_deaths()
    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the steps start_iter <= iter < max_iter with all hooks around them.

        SIGINT (Ctrl-C) and SIGTERM stop after the current iteration, or during an evaluation, with
        a checkpoint; SIGUSR1 saves a checkpoint and continues (`d2lite.utils.stop_signals`).

        Raises:
            KeyboardInterrupt: SIGINT; the message says where the checkpoint is.
            SystemExit: SIGTERM, with status 143.
            ProcessDiedError: a worker of a data loader has died.
        """
        logger.info("Training from iteration %d to %d", start_iter, max_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        self.stopped = self._failed = self._left = False
        with EventStorage(start_iter) as self.storage, StopSignals() as signals:
            if self._storage_state is not None:
                self.storage.load_state_dict(self._storage_state)
                self._storage_state = None
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    if self.stopped:
                        break
                    self.before_step()
                    self.run_step()
                    self._hooks_reached = len(self._hooks)
                    try:
                        self.after_step()
                    except (Exception, StopRequested) as error:
                        # In an evaluation, which is repeated on resume. It may also fail with
                        # another error if the signal killed workers of its loader or another rank.
                        if signals.requested:
                            stopped = isinstance(error, StopRequested)
                            self._save_now(None if stopped else self._hooks_reached)
                        raise
                    self._answer(signals)
                else:
                    self.iter = max(start_iter, max_iter)
                if self.stopped:
                    self.max_iter = self.iter
            except BaseException as error:
                self._failed = True
                if signals.requested:
                    # If another process stopped first, all kinds of errors can follow here.
                    self._leave(signals.requested)
                if isinstance(error, Exception):
                    logger.error("Training failed in iteration %d", self.iter)
                    # Whoever handles the error prints it to the terminal.
                    logger.debug("It failed with this error:", exc_info=True, extra=FILE_ONLY)
                raise
            finally:
                self._finish(signals)

    def _finish(self, signals: StopSignals) -> None:
        try:
            self.after_train()
        except StopRequested:  # in the evaluation after the last step, which is repeated on resume
            self._failed = True
            self._leave(signals.requested)
        except WriteError as error:
            if not self._failed:
                raise
            logger.error("%s", error)  # the error that ended training takes precedence
        finally:
            if signals.requested:
                comm.leave_together(f"stopped at {self.iter}")

    def _answer(self, signals: StopSignals) -> None:
        """Handle the signals that arrived since the last step, on all ranks together."""
        stop, save = signals.agreed()
        if stop:
            for hook in self._hooks:
                hook.before_stop()
        if stop or save:
            self._save_now()
        if stop:
            raise StopRequested(stop)

    def _save_now(self, num_hooks: int | None = None) -> None:
        # In an interrupted step, only hooks that have already run may save: the hooks before them,
        # such as the one that averages buffers over the ranks, must have run too.
        for hook in self._hooks[:num_hooks]:
            hook.save_now()

    def _leave(self, number: int) -> None:
        """End training after a signal: SIGINT raises KeyboardInterrupt, SIGTERM exits."""
        self._left = True
        message = self._how_to_go_on()
        if number == signal.SIGINT:
            raise StopRequested(number, message) from None
        logger.warning(message)
        raise SystemExit(128 + number) from None

    def _how_to_go_on(self) -> str:
        return f"Stopped at iteration {self.iter} of {self.max_iter}."

    def stop(self) -> None:
        """End training after the current iteration, as if it were the last one. In `before_train`,
        no iteration runs. All ranks must call it in the same iteration."""
        self.stopped = True

    def before_train(self) -> None:
        """Call the hooks of that name."""
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        """Call `after_train` of the hooks, with the storage at the last iteration.

        Raises:
            WriteError: a hook could not write a file; all hooks have run.
        """
        self.storage.iter = self.iter
        unwritten: list[WriteError] = []
        for hook in self._hooks:
            try:
                hook.after_train()
            except WriteError as error:
                unwritten.append(error)
        for error in unwritten[1:]:
            logger.error("%s", error)
        if unwritten:
            raise unwritten[0]

    def before_step(self) -> None:
        """Call the hooks of that name, with the storage at the current iteration."""
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        """Call `after_backward` of the hooks. `run_step` does so after the backward pass."""
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        """Call the hooks of that name."""
        for index, hook in enumerate(self._hooks):
            self._hooks_reached = index
            hook.after_step()

    def run_step(self) -> None:
        """Run one training step, and put its values into the open EventStorage."""
        raise NotImplementedError(f"{type(self).__name__} must define run_step")

    def state_dict(self) -> dict:
        """Return the iteration, the states of the hooks and the values in the storage."""
        # The last completed iteration; in after_train `iter` is one more.
        finished = hasattr(self, "storage") and self.iter >= self.max_iter
        state: dict = {"iteration": self.iter - finished}
        hooks = {name: hook.state_dict() for name, hook in _named(self._hooks)}
        if hooks := {name: kept for name, kept in hooks.items() if kept}:
            state["hooks"] = hooks
        resume = {name: hook.resume_state() for name, hook in _named(self._hooks)}
        if resume := {name: kept for name, kept in resume.items() if kept}:
            state["resume"] = resume
        if hasattr(self, "storage"):
            state["storage"] = self.storage.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state from `state_dict`. States of hooks that are not registered are ignored with
        a warning.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: the state is malformed.
        """
        if not isinstance(state_dict["iteration"], Integral):
            raise ValueError(f"its iteration is {state_dict['iteration']!r:.80}")
        if (storage := state_dict.get("storage")) is not None:
            # The storage is opened when training starts; check its state already now.
            EventStorage().load_state_dict(storage)
        self.iter = int(state_dict["iteration"])
        self._storage_state = storage
        hooks = dict(_named(self._hooks))
        for name, state in state_dict.get("hooks", {}).items():
            if name in hooks:
                hooks[name].load_state_dict(state)
            elif comm.is_main_process():
                logger.warning("The checkpoint has a state for hook %s, which is not in use", name)
        for name, state in state_dict.get("resume", {}).items():
            if name in hooks:
                hooks[name].load_resume_state(state)


def is_complete(trainer: TrainerBase) -> bool:
    """Return whether the last step has been done; to be called in `after_train`.

    `train` then leaves `iter` at `max_iter`. A custom loop, `for trainer.iter in range(start,
    max_iter)`, leaves it at `max_iter - 1`.
    """
    return is_last(trainer.iter, trainer.max_iter) and not trainer._failed


def _named(hooks: list[HookBase]) -> Iterator[tuple[str, HookBase]]:
    """Yield hooks with their class names; the second one of a class is called "Name#2"."""
    seen: dict[str, int] = {}
    for hook in hooks:
        name = type(hook).__qualname__
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}#{seen[name]}"), hook


class SimpleTrainer(TrainerBase):
    """Trainer for the common case: one model, one optimizer, one data loader, a sum of losses.

    Everything else, learning rate included, is left to hooks. The parts of a step are methods,
    so that a subclass changes one of them and not the step.

    Attributes:
        accumulate_steps: number of parts of a batch that go through the model one after the other,
            so that only one part must fit into memory. Their gradients add up to one update, and
            the losses are means over the batch.
    """

    # Class attributes, because constructors of other programs may not set them.
    accumulate_steps = 1
    gather_metric_period = 1
    zero_grad_before_forward = False
    async_write_metrics = False
    data_loader: Iterable | None = None
    _data_loader_iter_obj: Iterator | None = None

    _late_error: NonFiniteError | None = None  # of an earlier step

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        """
        Args:
            model: takes a batch from the loader, returns a dict of scalar losses (or one loss).
                It is set to training mode, and must stay in it.
            gather_metric_period: iterations between gathering the losses of all ranks.
            zero_grad_before_forward: free the old gradients before the forward pass, to save
                memory during it.
            async_write_metrics: copy losses to the CPU in a thread, to avoid waiting for the GPU
                in every step.
        """
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics

    def run_step(self) -> None:
        """Run forward pass, backward pass and update.

        Raises:
            FloatingPointError: a loss is not finite and `bad_steps` does not skip such steps.
        """
        assert self.model.training, "the model was switched to evaluation mode during training"
        data, data_time = self.next_batch()
        self.bad_steps.begin(self.model, data)
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        try:
            loss_dict = self._accumulate_gradients(data)
            self.after_backward()
            self._write_metrics(loss_dict, data_time)
            self._check_gradients()
        except FloatingPointError as error:
            self._handle_bad_step(error)
            self._leave_step_out()
        else:
            self.bad_steps.end()
            self.optimizer_step()

    def _accumulate_gradients(self, data: Any) -> dict[str, Tensor]:
        """Run the forward and backward pass of each part of a batch; return the losses of all."""
        parts = split_batch(data, self.accumulate_steps)
        loss_dict: dict[str, Tensor] = {}
        for index, (part, share) in enumerate(parts):
            is_last = index == len(parts) - 1
            # Gradients are averaged over the processes only once, with the last part.
            wait = contextlib.nullcontext if is_last else self._without_sync
            with wait():
                with self.forward_context():
                    losses = self.compute_losses(part)
                if index == 0 and not self.zero_grad_before_forward:
                    self.optimizer.zero_grad()
                if len(parts) > 1:
                    losses = {name: loss * share for name, loss in losses.items()}
                self.backward(sum(losses.values()))
            if len(parts) == 1:
                return losses
            for name, loss in losses.items():
                loss_dict[name] = loss_dict.get(name, 0) + loss.detach()
        return loss_dict

    def _without_sync(self) -> contextlib.AbstractContextManager:
        return getattr(self.model, "no_sync", contextlib.nullcontext)()

    @cached_property
    def bad_steps(self) -> BadSteps:
        """Decides what happens when losses or gradients are not finite: by default an error."""
        return BadSteps()

    def _check_gradients(self) -> None:
        self.bad_steps.check_gradients(self.model, self.iter)

    def _handle_bad_step(self, error: FloatingPointError) -> None:
        about = {"accumulate_steps": self.accumulate_steps}
        self.bad_steps.handle(error, self.iter, self.optimizer, about_trainer=about)

    def _leave_step_out(self) -> None:
        self.optimizer.zero_grad()

    def next_batch(self) -> tuple[Any, float]:
        """Return the next batch, and the seconds spent waiting for it."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        seconds = time.perf_counter() - start
        if skipped := getattr(self.data_loader, "num_skipped", 0):
            # Of this process; with DATALOADER.ON_BAD_SAMPLE "skip".
            get_event_storage().put_scalar("data/num_skipped", skipped, smoothing_hint=False)
        return data, seconds

    def forward_context(self) -> contextlib.AbstractContextManager:
        """Return the context manager for the forward pass."""
        return contextlib.nullcontext()

    def compute_losses(self, data: Any) -> dict[str, Tensor]:
        """Return the losses of the model on a batch, by name."""
        losses = self.model(data)
        return {"total_loss": losses} if isinstance(losses, Tensor) else losses

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of the summed loss."""
        loss.backward()

    def optimizer_step(self) -> None:
        """Apply the gradients."""
        self.optimizer.step()

    @property
    def _data_loader_iter(self) -> Iterator:
        # Created on first use: a resumed run sets the position of the loader first.
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    @_data_loader_iter.setter
    def _data_loader_iter(self, iterator: Iterator | None) -> None:  # for older constructors
        self._data_loader_iter_obj = iterator

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable]) -> None:
        """Close the loader and its workers, then continue with the one that the builder returns."""
        del self.data_loader
        self._data_loader_iter_obj = None
        self.data_loader = data_loader_builder()

    @cached_property
    def concurrent_executor(self) -> concurrent.futures.Executor:
        """The thread that writes metrics in the order of steps, for `async_write_metrics`."""
        return concurrent.futures.ThreadPoolExecutor(max_workers=1)

    def _write_metrics(
        self,
        loss_dict: Mapping[str, Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        """Write the metrics of an iteration, by default the current one, if they are due."""
        self._raise_late_error()
        iter = self.iter if iter is None else iter
        if not is_due(iter, self.gather_metric_period):
            return
        if self.async_write_metrics:
            # Another storage may be open by the time the thread runs.
            storage = get_event_storage()
            job = self.concurrent_executor.submit(
                put_metrics, loss_dict, data_time, iter, prefix, storage
            )
            job.add_done_callback(self._note_failure)
        else:
            self.write_metrics(loss_dict, data_time, iter, prefix)

    def _raise_late_error(self) -> None:
        error, self._late_error = self._late_error, None
        if error is not None:
            raise error

    def _note_failure(self, job: concurrent.futures.Future) -> None:
        error = job.exception()
        if isinstance(error, NonFiniteError):
            error.in_time = False
            self._late_error = self._late_error or error
        elif error is not None:
            logger.error("Writing the metrics failed", exc_info=error)

    @staticmethod
    def write_metrics(
        loss_dict: Mapping[str, Tensor], data_time: float, cur_iter: Any = None, prefix: str = ""
    ) -> None:
        """Put the losses, averaged over ranks, and the data time into the open storage.

        Raises:
            FloatingPointError: the losses are not finite.
        """
        storage = get_event_storage()
        if cur_iter is None or isinstance(cur_iter, str):  # in release 0.6 the prefix was here
            cur_iter, prefix = storage.iter, cur_iter or prefix
        put_metrics(loss_dict, data_time, cur_iter, prefix, storage)

    def after_train(self) -> None:
        """Finish writing metrics, then call the hooks."""
        if "concurrent_executor" in self.__dict__:  # it was used
            self.concurrent_executor.shutdown(wait=True)
            del self.concurrent_executor
        super().after_train()
        self._raise_late_error()

    def state_dict(self) -> dict:
        """Add the optimizer, the position of the loader if it has one, and the states that modules
        have besides their weights (`training_state()`)."""
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        state["optimizer_layout"] = optimizer_layout(self.optimizer, self._bare_model())
        if modules := {name: m.training_state() for name, m in self._stateful_modules()}:
            state["modules"] = modules
        if bad_steps := self.bad_steps.state_dict():
            state["bad_steps"] = bad_steps
        if hasattr(self.data_loader, "state_dict"):
            state["data_loader"] = self.data_loader.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state from `state_dict`.

        Raises:
            ResumeError: the state belongs to another optimizer or to other parameters.
        """
        saved, layout = state_dict["optimizer"], state_dict.get("optimizer_layout")
        require_same_optimizer(saved, self.optimizer, self._bare_model(), layout)
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(saved)
        self.bad_steps.load_state_dict(state_dict.get("bad_steps", {}))
        for name, module in self._stateful_modules():
            if name in state_dict.get("modules", {}):
                module.load_training_state(state_dict["modules"][name])
        if "data_loader" in state_dict and hasattr(self.data_loader, "load_state_dict"):
            self.data_loader.load_state_dict(state_dict["data_loader"])
            self._data_loader_iter_obj = None

    def _stateful_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the modules with a state that detectron2's state dicts don't contain."""
        for name, module in self._bare_model().named_modules():
            if hasattr(module, "training_state"):
                yield name, module

    def _bare_model(self) -> nn.Module:
        """Return the model without DDP, which adds a prefix to parameter names."""
        return getattr(self.model, "module", self.model)


class AMPTrainer(SimpleTrainer):
    """SimpleTrainer with automatic mixed precision.

    With float16 the loss is scaled, because small gradients would underflow; bfloat16 has the
    range of float32 and needs no scaling.
    """

    precision: torch.dtype = torch.float16
    log_grad_scaler = False

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        """
        Args:
            grad_scaler: the loss scaler; None creates the default one if `precision` is float16.
            precision: torch.float16 or torch.bfloat16, for matrix products and convolutions. On a
                CPU, bfloat16 is used instead of float16 unless a `grad_scaler` is given.
            log_grad_scaler: put the scale into the storage as "[metric]grad_scaler".
            others: see SimpleTrainer.
        """
        super().__init__(
            model,
            data_loader,
            optimizer,
            gather_metric_period,
            zero_grad_before_forward,
            async_write_metrics,
        )
        if grad_scaler is None:
            if self._device_type == "cpu" and precision == torch.float16:
                logger.info("Using bfloat16 instead of float16 for mixed precision on a CPU")
                precision = torch.bfloat16
            scaled = precision == torch.float16
            grad_scaler = torch.amp.GradScaler(self._device_type, enabled=scaled)
        self.grad_scaler = grad_scaler
        self.precision = precision
        self.log_grad_scaler = log_grad_scaler

    @property
    def _device_type(self) -> str:
        return next(self.model.parameters()).device.type

    def forward_context(self) -> contextlib.AbstractContextManager:
        """Autocast to the chosen precision."""
        return torch.autocast(self._device_type, dtype=self.precision)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the scaled loss."""
        self.grad_scaler.scale(loss).backward()

    def optimizer_step(self) -> None:
        """Unscale and apply the gradients; the scaler skips a step that overflows."""
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _check_gradients(self) -> None:
        if not self.grad_scaler.is_enabled():  # it checks them, and overflow is expected
            super()._check_gradients()

    def _handle_bad_step(self, error: FloatingPointError) -> None:
        scale = self.grad_scaler.get_scale() if self.grad_scaler.is_enabled() else 1.0
        about = {
            "precision": str(self.precision).removeprefix("torch."),
            "scale": scale,
            "accumulate_steps": self.accumulate_steps,
        }
        self.bad_steps.handle(error, self.iter, self.optimizer, scale=scale, about_trainer=about)

    def _leave_step_out(self) -> None:
        if self.grad_scaler.is_enabled():
            # The scaler must see every step; it skips the update after an overflow.
            parameter = self.optimizer.param_groups[0]["params"][0]
            parameter.grad = torch.full_like(parameter, float("nan"))
            self.optimizer_step()
        super()._leave_step_out()

    def state_dict(self) -> dict:
        """Add the loss scaler."""
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state from `state_dict`."""
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
