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
    """Something that happens around the training steps.

    A trainer calls its hooks, in the order in which they were registered, like this::

        hook.before_train()
        for iter in range(start_iter, max_iter):
            hook.before_step()
            trainer.run_step()      # calls hook.after_backward() between backward and update
            hook.after_step()
        hook.after_train()          # also when a step has failed

    Inside, `self.trainer` is the trainer: its `iter`, `start_iter`, `max_iter` and `storage` are
    what most hooks need.
    """

    trainer: "TrainerBase" = None

    def before_train(self) -> None:
        """Act once, before the first step."""

    def after_train(self) -> None:
        """Act once, after the last step or a failure."""

    def before_step(self) -> None:
        """Act before each step."""

    def after_backward(self) -> None:
        """Act in each step, between the backward pass and the update."""

    def after_step(self) -> None:
        """Act after each step."""

    def before_stop(self) -> None:
        """Act on all ranks when a signal ends the training after this step, and before the
        checkpoint is saved."""

    def save_now(self) -> None:
        """Save a checkpoint of this iteration, for hooks that save any: a signal asks for it."""

    def resume_state(self) -> dict:
        """Return what a run needs besides `state_dict` to go on exactly. It is kept apart from
        that, for hooks that detectron2 has too and gives no state."""
        return {}

    def load_resume_state(self, state: dict) -> None:
        """Take over what `resume_state` gave."""

    def state_dict(self) -> dict:
        """Return what a checkpoint has to keep of this hook: tensors, numbers, strings, containers.

        A hook that returns anything here also has `load_state_dict(state)`.
        """
        return {}


class TrainerBase:
    """An iterative trainer with hooks. A subclass says what one step is.

    Attributes:
        iter: the current iteration, from 0. After a completed `train` it equals `max_iter`.
        start_iter, max_iter: the iterations to run are start_iter <= iter < max_iter. `stop`
            makes `max_iter` what was reached.
        stopped: whether `stop` was called.
        storage: the EventStorage that is open during training.
    """

    # Of the class, since programs have constructors and loops of their own.
    stopped = False
    _failed = False
    _left = False  # because of a signal, with a checkpoint
    _hooks_reached = 0  # how many have done their `after_step`
    _storage_state: dict | None = None

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter: int = 0
        self.start_iter: int = 0
        self.max_iter: int
        self.storage: EventStorage

    def register_hooks(self, hooks: Iterable[HookBase | None]) -> None:
        """Add hooks behind those already registered; None entries are skipped."""
        for hook in hooks:
            if hook is None:
                continue
            assert isinstance(hook, HookBase), f"{hook!r} is not a HookBase"
            # A strong reference would be a circle that keeps model and data alive.
            hook.trainer = weakref.proxy(self)
            self._hooks.append(hook)

    @telling_worker_deaths()
    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the steps start_iter <= iter < max_iter with all hooks around them.

        SIGINT (Ctrl-C) and SIGTERM end it after the current iteration, or within an evaluation,
        with a checkpoint; SIGUSR1 saves one and goes on (`d2lite.utils.stop_signals`).

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
                        # In an evaluation, which is repeated on resume. It fails in other ways too
                        # where the signal has ended workers of its loader, or another rank.
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
                    # Another process that has stopped first leaves errors of all kinds behind.
                    self._leave(signals.requested)
                if isinstance(error, Exception):
                    logger.error("Training failed in iteration %d", self.iter)
                    # The terminal gets it from whoever handles the error.
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
            logger.error("%s", error)  # what the training has failed with comes first
        finally:
            if signals.requested:
                comm.leave_together(f"stopped at {self.iter}")

    def _answer(self, signals: StopSignals) -> None:
        """Do what signals have asked for since the last step, on all ranks alike."""
        stop, save = signals.agreed()
        if stop:
            for hook in self._hooks:
                hook.before_stop()
        if stop or save:
            self._save_now()
        if stop:
            raise StopRequested(stop)

    def _save_now(self, num_hooks: int | None = None) -> None:
        # Of a step that was cut off, only those of the first hooks: what comes before a hook that
        # saves has to be done, as the average of the ranks' buffers.
        for hook in self._hooks[:num_hooks]:
            hook.save_now()

    def _leave(self, number: int) -> None:
        """End a training that was asked to stop: the way out depends on the signal."""
        self._left = True
        message = self._how_to_go_on()
        if number == signal.SIGINT:
            raise StopRequested(number, message) from None
        logger.warning(message)
        raise SystemExit(128 + number) from None

    def _how_to_go_on(self) -> str:
        return f"Stopped at iteration {self.iter} of {self.max_iter}."

    def stop(self) -> None:
        """End the training behind the current iteration as if it were the last; called in
        `before_train`, without any. All ranks have to call it in the same iteration."""
        self.stopped = True

    def before_train(self) -> None:
        """Call the hooks of that name."""
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        """Call the hooks of that name, with the storage at the iteration that was reached.

        Raises:
            WriteError: one of them could not write a file; the others have done their work.
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
        """Call the hooks of that name. `run_step` does so once the gradients are there."""
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        """Call the hooks of that name."""
        for index, hook in enumerate(self._hooks):
            self._hooks_reached = index
            hook.after_step()

    def run_step(self) -> None:
        """One training step, with its figures put into the open EventStorage."""
        raise NotImplementedError(f"{type(self).__name__} does not say what a step is")

    def state_dict(self) -> dict:
        """Return the iteration, the hooks' states and the figures in the storage."""
        # The last iteration that was completed; in after_train `iter` is the one behind it.
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
        """Take over what `state_dict` gave. States of hooks that are not registered are named
        in the log and left out.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is not such a state.
        """
        if not isinstance(state_dict["iteration"], Integral):
            raise ValueError(f"its iteration is {state_dict['iteration']!r:.80}")
        # The storage is opened when training starts; that its state is sound is seen now.
        EventStorage().load_state_dict(state_dict.get("storage") or {})
        self.iter = int(state_dict["iteration"])
        self._storage_state = state_dict.get("storage")
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
    """Whether the last step was done; asked in `after_train`.

    `train` leaves `iter` at `max_iter` then. A loop of somebody's own, `for trainer.iter in
    range(start, max_iter)`, leaves it one before that.
    """
    return is_last(trainer.iter, trainer.max_iter) and not trainer._failed


def _named(hooks: list[HookBase]) -> Iterator[tuple[str, HookBase]]:
    """Hooks by class name; the second of a class is called "Name#2"."""
    seen: dict[str, int] = {}
    for hook in hooks:
        name = type(hook).__qualname__
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}#{seen[name]}"), hook


class SimpleTrainer(TrainerBase):
    """The common step: one model, one optimizer, one data loader; the losses are summed.

    Everything else, learning rate included, is left to hooks. The parts of a step are methods,
    so that a subclass changes one of them and not the step.

    Attributes:
        accumulate_steps: number of parts of a batch that go through the model one after the other,
            so that a part alone has to fit into memory. Their gradients add up to one update, and
            the losses are means over the batch.
    """

    # Of the class, for constructors of programs that leave them out.
    accumulate_steps = 1
    gather_metric_period = 1
    zero_grad_before_forward = False
    async_write_metrics = False
    data_loader: Iterable | None = None
    _data_loader_iter_obj: Iterator | None = None

    _late_error: NonFiniteError | None = None  # of a step before this one

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
            gather_metric_period: collect the losses of all ranks every so many iterations.
            zero_grad_before_forward: drop the old gradients before the forward pass, which
                saves their memory during it.
            async_write_metrics: copy losses to the CPU in a thread, so that a GPU is not
                waited for in every step.
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
        """Forward, backward, update.

        Raises:
            FloatingPointError: a loss is not finite, and `bad_steps` does not leave such steps out.
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
        """Do forward and backward pass of each part of a batch; returns the losses of all."""
        parts = split_batch(data, self.accumulate_steps)
        loss_dict: dict[str, Tensor] = {}
        for index, (part, share) in enumerate(parts):
            is_last = index == len(parts) - 1
            # Between processes gradients are averaged once, with the last part.
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
        """What happens to steps whose loss or gradients are not finite: by default an error."""
        return BadSteps()

    def _check_gradients(self) -> None:
        self.bad_steps.check_gradients(self.model, self.iter)

    def _handle_bad_step(self, error: FloatingPointError) -> None:
        about = {"accumulate_steps": self.accumulate_steps}
        self.bad_steps.handle(error, self.iter, self.optimizer, about_trainer=about)

    def _leave_step_out(self) -> None:
        self.optimizer.zero_grad()

    def next_batch(self) -> tuple[Any, float]:
        """Return the next batch, and the seconds that it was waited for."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        seconds = time.perf_counter() - start
        if skipped := getattr(self.data_loader, "num_skipped", 0):
            # Of this process; with DATALOADER.ON_BAD_SAMPLE "skip".
            get_event_storage().put_scalar("data/num_skipped", skipped, smoothing_hint=False)
        return data, seconds

    def forward_context(self) -> contextlib.AbstractContextManager:
        """Return the context of the forward pass."""
        return contextlib.nullcontext()

    def compute_losses(self, data: Any) -> dict[str, Tensor]:
        """Return the model's losses on one batch, by name."""
        losses = self.model(data)
        return {"total_loss": losses} if isinstance(losses, Tensor) else losses

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the summed loss."""
        loss.backward()

    def optimizer_step(self) -> None:
        """Apply the gradients."""
        self.optimizer.step()

    @property
    def _data_loader_iter(self) -> Iterator:
        # Created late: a resumed run moves the loader to its position first.
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    @_data_loader_iter.setter
    def _data_loader_iter(self, iterator: Iterator | None) -> None:  # for older constructors
        self._data_loader_iter_obj = iterator

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable]) -> None:
        """Drop the loader with its workers, then continue with what the builder returns."""
        del self.data_loader
        self._data_loader_iter_obj = None
        self.data_loader = data_loader_builder()

    @cached_property
    def concurrent_executor(self) -> concurrent.futures.Executor:
        """The thread that writes metrics if `async_write_metrics` is on: in the order of steps."""
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
            # Another storage may be open when the thread comes to it.
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
        if cur_iter is None or isinstance(cur_iter, str):  # release 0.6 had the prefix here
            cur_iter, prefix = storage.iter, cur_iter or prefix
        put_metrics(loss_dict, data_time, cur_iter, prefix, storage)

    def after_train(self) -> None:
        """Finish writing, then the hooks."""
        if "concurrent_executor" in self.__dict__:  # it was used
            self.concurrent_executor.shutdown(wait=True)
            del self.concurrent_executor
        super().after_train()
        self._raise_late_error()

    def state_dict(self) -> dict:
        """Add the optimizer, the position in the stream of samples if the loader has one, and what
        modules keep beside their weights (their `training_state()`)."""
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
        """Take over what `state_dict` gave.

        Raises:
            ResumeError: the optimizer's state is of another optimizer, or other parameters.
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
        """Modules with a state that is no part of detectron2's state dicts, by name."""
        for name, module in self._bare_model().named_modules():
            if hasattr(module, "training_state"):
                yield name, module

    def _bare_model(self) -> nn.Module:
        """Return the model without DDP, which adds to the names."""
        return getattr(self.model, "module", self.model)


class AMPTrainer(SimpleTrainer):
    """The same step with automatic mixed precision.

    float16 scales the loss, since small gradients would vanish in it; bfloat16 has float32's
    range and needs no scaling.
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
            grad_scaler: the loss scaler; None makes the default one when `precision` is float16.
            precision: of the matrix products and convolutions, torch.float16 or torch.bfloat16.
                On a CPU it is bfloat16, since CPUs do not compute in float16, unless a
                `grad_scaler` is given.
            log_grad_scaler: put the scale into the storage as "[metric]grad_scaler".
            others: as in SimpleTrainer.
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
                logger.info("Mixed precision on a CPU is bfloat16, not float16")
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
        """Unscale and apply the gradients; a step with overflow is left out."""
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _check_gradients(self) -> None:
        if not self.grad_scaler.is_enabled():  # it checks them itself, and overflows are no faults
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
            # The scaler has to go through each step, and leaves out one that overflows.
            parameter = self.optimizer.param_groups[0]["params"][0]
            parameter.grad = torch.full_like(parameter, float("nan"))
            self.optimizer_step()
        super()._leave_step_out()

    def state_dict(self) -> dict:
        """Add the loss scaler."""
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
