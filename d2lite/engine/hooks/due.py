"""When a hook is due, and where the hooks of a resumed run continue."""

import contextlib
from collections.abc import Iterator

from d2lite.engine.train_loop import TrainerBase
from d2lite.utils.periods import is_due, is_last


def is_due_or_last(trainer: TrainerBase, *periods: int) -> bool:
    """Return whether one of the periods, or training, ends with the current iteration."""
    last = is_last(trainer.iter, trainer.max_iter)
    return last or any(is_due(trainer.iter, period) for period in periods)


def is_due_before_last(trainer: TrainerBase, period: int) -> bool:
    """Return whether a period ends with the current iteration and another iteration follows.

    This is the rule for evaluations during training: the one after the last iteration is left to
    `after_train`.
    """
    return is_due(trainer.iter, period) and not is_last(trainer.iter, trainer.max_iter)


@contextlib.contextmanager
def at_last_iteration(trainer: TrainerBase) -> Iterator[bool]:
    """In `before_train` of a resumed run, go back to the iteration before its first one.

    The run may have ended after it saved the checkpoint and before the hooks that follow in the
    same iteration. Yields whether there is such an iteration.
    """
    if trainer.start_iter == 0:
        yield False
        return
    trainer.iter = trainer.storage.iter = trainer.start_iter - 1
    try:
        yield True
    finally:
        trainer.iter = trainer.storage.iter = trainer.start_iter
