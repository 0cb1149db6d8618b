"""The hook that evaluates the model during and after training."""

from collections.abc import Callable, Mapping

from d2lite.engine.hooks.due import at_last_iteration, is_due_before_last
from d2lite.engine.train_loop import HookBase, is_complete
from d2lite.evaluation.testing import flatten_results_dict
from d2lite.utils import comm


class EvalHook(HookBase):
    """Hook that evaluates periodically and after training."""

    # Class attributes, for subclasses whose constructors don't call ours.
    _latest_iter: int | None = None
    _is_resumed = False

    def __init__(
        self, eval_period: int, eval_function: Callable[[], Mapping], eval_after_train: bool = True
    ) -> None:
        """
        Args:
            eval_period: iterations between evaluations; 0 leaves only the one after training.
            eval_function: returns a (nested) dict of metrics, which are put into the storage as
                "task/metric". All ranks call it together.
            eval_after_train: also evaluate after the last iteration.
        """
        self._period = eval_period
        self._func = eval_function
        self._eval_after_train = eval_after_train

    def before_train(self) -> None:
        """Evaluate now if the resumed run ended between its checkpoint and its evaluation."""
        with at_last_iteration(self.trainer) as resumed:
            if not (resumed and self._is_resumed):
                return
            if self._latest_iter == self.trainer.iter:
                self.trainer.storage.evaluated_iter = self.trainer.iter
            elif is_due_before_last(self.trainer, self._period):
                self._do_eval()

    def after_step(self) -> None:
        if is_due_before_last(self.trainer, self._period):
            self._do_eval()

    def resume_state(self) -> dict:
        return {"latest_iter": self._latest_iter}

    def load_resume_state(self, state: dict) -> None:
        """Load the iteration of the last evaluation."""
        self._latest_iter = state["latest_iter"]
        self._is_resumed = True

    def after_train(self) -> None:
        # Not again if training was stopped right after an evaluation.
        is_evaluated = self._latest_iter == self.trainer.max_iter - 1
        if self._eval_after_train and is_complete(self.trainer) and not is_evaluated:
            self._do_eval()
        del self._func  # it often refers to the trainer: a cycle

    def _do_eval(self) -> None:
        results = self._func()
        self._latest_iter = self.trainer.storage.evaluated_iter = self.trainer.iter
        if results:
            assert isinstance(results, Mapping), f"evaluation must return a dict, not {results!r}"
            metrics = flatten_results_dict(results)
            for name, value in metrics.items():
                try:
                    metrics[name] = float(value)
                except (TypeError, ValueError):
                    raise ValueError(
                        f"the evaluation returned {value!r} for {name}; a nested dict of floats "
                        "is expected"
                    ) from None
            self.trainer.storage.put_scalars(**metrics, smoothing_hint=False)
        # Ranks that finish early wait here, so that the next step's time does not include the wait.
        comm.synchronize()
