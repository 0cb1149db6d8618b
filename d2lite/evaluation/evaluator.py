"""The inference loop, and the interface of evaluators."""

import datetime
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from d2lite.data.worker_deaths import telling_worker_deaths
from d2lite.utils.comm import get_world_size, is_main_process
from d2lite.utils.stop_signals import check_stop

logger = logging.getLogger(__name__)

WARMUP_BATCHES = 5  # the first batches load kernels and fill caches, which distorts the eta
LOG_PERIOD_SECONDS = 5.0
NO_LIMIT = 100_000  # limit of detections per image if the model has none


class Settings(NamedTuple):
    """Settings of evaluators, besides the dataset."""

    tasks: Sequence[str] | None = None
    output_dir: str | None = None
    oks_sigmas: Sequence[float] = ()
    detections_per_image: int | None = None  # of the model; -1: no limit

    def limit(self, usual: int) -> int | None:
        """Return the number of detections that count per image, or None for the metric's own limit.

        Args:
            usual: the metric's own limit; it is only raised, to what the model returns.
        """
        wanted = self.detections_per_image
        if wanted is None or 0 <= wanted <= usual:
            return None
        return wanted if wanted > 0 else NO_LIMIT


class DatasetEvaluator:
    """Base class of evaluators, which turn predictions, batch by batch, into metrics.

    The loop calls `reset`, then `process` with every batch, then `evaluate` once.
    """

    @classmethod
    def from_settings(cls, dataset_name: str, settings: Settings) -> "DatasetEvaluator":
        """Build the evaluator of a dataset from the settings that it uses.

        `evaluator_for` calls this; by default the constructor gets only the name.
        """
        return cls(dataset_name)

    def reset(self) -> None:
        """Discard everything processed so far. Called before each evaluation."""

    def check(self, tasks: Collection[str] = ("bbox",)) -> set[str] | None:
        """Check before training that the ground truth can be evaluated.

        Writes nothing and keeps what was processed. By default nothing is checked.

        Args:
            tasks: what the model predicts: any of "bbox", "segm" and "keypoints".
        Returns:
            The metrics that will be reported, such as "bbox/AP"; None if they are not known.
        Raises:
            ValueError: a task cannot be evaluated.
        """

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Process the predictions of one batch.

        Args:
            inputs: input dicts of the model, one per image.
            outputs: outputs of the model, in the same order.
        """

    def evaluate(self) -> dict | None:
        """Summarize all processed batches.

        Returns:
            {task: {metric: value}} on the main process; an empty value on the others.
        """


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators that see the same predictions; their results are merged."""

    def __init__(self, evaluators: list[DatasetEvaluator]):
        super().__init__()
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def check(self, tasks: Collection[str] = ("bbox",)) -> set[str] | None:
        """Run the checks of all evaluators; see `DatasetEvaluator.check`."""
        # Evaluators of other programs may lack the method.
        able = [e for e in self._evaluators if hasattr(e, "check")]
        found = [evaluator.check(tasks) for evaluator in able]
        known = len(able) == len(self._evaluators) and None not in found
        return set().union(*found) if known else None

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> OrderedDict:
        """Return the union of all results.

        Raises:
            ValueError: two evaluators report the same task.
        """
        results: OrderedDict = OrderedDict()
        for evaluator in self._evaluators:
            # Every process must call evaluate, since it may gather from all of them.
            result = evaluator.evaluate()
            if not is_main_process() or result is None:
                continue
            for key, value in result.items():
                if key in results:
                    raise ValueError(
                        f"two evaluators report {key!r} (the second is "
                        f"{type(evaluator).__name__}); give them different tasks"
                    )
                results[key] = value
        return results


@telling_worker_deaths()
def inference_on_dataset(
    model: Callable[[list[dict]], list[dict]],
    data_loader: Iterable[list[dict]],
    evaluator: DatasetEvaluator | list[DatasetEvaluator] | None,
    callbacks: dict[str, Callable[[], Any]] | None = None,
) -> dict:
    """Run the model on all batches, evaluate its predictions, and measure its speed.

    Args:
        model: an `nn.Module`, which is set to eval mode and restored afterward, or any callable
            from a list of input dicts to a list of output dicts.
        data_loader: yields the batches; its length, if it has one, is used for the eta.
        evaluator: one evaluator, several, or None to only measure the speed.
        callbacks: functions without arguments, named "on_start", "before_inference",
            "after_inference" (around every batch) and "on_end".
    Returns:
        The result of `evaluator.evaluate()`, or {} if that is None.
    """
    if evaluator is None or isinstance(evaluator, (list, tuple)):
        evaluator = DatasetEvaluators(list(evaluator or ()))

    def call(name: str) -> None:
        if callbacks and name in callbacks:
            callbacks[name]()

    try:
        total = len(data_loader)
    except TypeError:  # of an iterable dataset
        total = None
    logger.info("Start inference on %s batches", "?" if total is None else total)
    evaluator.reset()
    clock = _Clock()
    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            stack.enter_context(inference_context(model))
        stack.enter_context(torch.no_grad())
        progress = stack.enter_context(_progress(total, clock))
        call("on_start")
        clock.start()
        batches = iter(data_loader)
        if hasattr(batches, "close"):  # also if the evaluation fails or is interrupted
            stack.callback(batches.close)
        for inputs in batches:
            clock.lap("data")
            call("before_inference")
            outputs = model(inputs)
            # Asynchronous kernels would otherwise count as evaluation.
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                torch.cuda.synchronize()
            call("after_inference")
            clock.lap("compute")
            evaluator.process(inputs, outputs)
            check_stop()
            clock.lap("eval")
            clock.next_batch()
            progress()
        call("on_end")
    clock.log_totals()
    results = evaluator.evaluate()
    return {} if results is None else results


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Set `model` to eval mode inside the block, and restore its mode afterward."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@dataclass
class _Clock:
    """Measures the seconds per batch of loading, inference and evaluation, without the warm-up."""

    seconds: dict[str, float] = field(default_factory=dict)
    batches: int = 0  # all batches
    measured: int = 0  # batches since the last restart
    begin: float = 0.0
    last: float = 0.0

    def start(self) -> None:
        self.begin = self.last = time.perf_counter()
        self.measured = 0
        self.seconds = dict.fromkeys(("data", "compute", "eval"), 0.0)

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] += now - self.last
        self.last = now

    def next_batch(self) -> None:
        self.batches += 1
        if self.batches == WARMUP_BATCHES:
            self._warm = (self.begin, self.seconds, self.measured + 1)
            self.start()
        else:
            self.measured += 1

    def per_batch(self) -> dict[str, float]:
        """Return the mean seconds of each part and their "total" over the measured batches."""
        if self.measured == 0 and self.batches:  # exactly the warm-up has passed
            begin, seconds, measured = self._warm
            elapsed = self.begin - begin
        else:
            seconds, measured = self.seconds, max(self.measured, 1)
            elapsed = self.last - self.begin
        return {**{k: v / measured for k, v in seconds.items()}, "total": elapsed / measured}

    def log_totals(self) -> None:
        """Log a summary in detectron2's wording, which scripts search for."""
        if not self.batches:
            logger.warning("The data loader returned no batches: there is nothing to evaluate")
            return
        mean = self.per_batch()
        devices = get_world_size()
        for label, key in (("time", "total"), ("pure compute time", "compute")):
            total = datetime.timedelta(seconds=int(mean[key] * self.batches))
            logger.info(
                "Total inference %s: %s (%.6f s / iter per device, on %s devices)",
                label,
                total,
                mean[key],
                devices,
            )


@contextmanager
def _progress(total: int | None, clock: _Clock) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each batch: it updates a progress bar on a terminal, or else
    logs from time to time."""
    if is_main_process() and sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc="Inference", unit="batch", leave=False) as bar:
            yield bar.update
        return
    last_report = time.perf_counter()

    def report() -> None:
        nonlocal last_report
        now = time.perf_counter()
        if clock.batches > WARMUP_BATCHES and now - last_report > LOG_PERIOD_SECONDS:
            last_report = now
            mean = clock.per_batch()
            line = (
                f"Inference done {clock.batches}/{'?' if total is None else total}. "
                f"Dataloading: {mean['data']:.4f} s/iter. "
                f"Inference: {mean['compute']:.4f} s/iter. "
                f"Eval: {mean['eval']:.4f} s/iter. Total: {mean['total']:.4f} s/iter."
            )
            if total is not None:
                left = max(total - clock.batches, 0) * mean["total"]
                line += f" ETA={datetime.timedelta(seconds=int(left))}"
            logger.info(line)

    yield report
