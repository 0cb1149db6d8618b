"""A hook that calls functions."""

from collections.abc import Callable

from d2lite.engine.train_loop import HookBase


class CallbackHook(HookBase):
    """Hook that calls the given functions with the trainer."""

    def __init__(
        self,
        *,
        before_train: Callable | None = None,
        after_train: Callable | None = None,
        before_step: Callable | None = None,
        after_step: Callable | None = None,
        after_backward: Callable | None = None,
    ) -> None:
        self._before_train = before_train
        self._after_train = after_train
        self._before_step = before_step
        self._after_step = after_step
        self._after_backward = after_backward

    def before_train(self) -> None:
        if self._before_train:
            self._before_train(self.trainer)

    def after_train(self) -> None:
        if self._after_train:
            self._after_train(self.trainer)
        # Functions may refer to the trainer: a cycle that would keep it alive.
        self._before_train = self._after_train = None
        self._before_step = self._after_step = self._after_backward = None

    def before_step(self) -> None:
        if self._before_step:
            self._before_step(self.trainer)

    def after_backward(self) -> None:
        if self._after_backward:
            self._after_backward(self.trainer)

    def after_step(self) -> None:
        if self._after_step:
            self._after_step(self.trainer)
