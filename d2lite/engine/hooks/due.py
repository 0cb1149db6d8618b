"""When a hook acts, and where the hooks of a resumed run go on."""

import contextlib
from collections.abc import Iterator

from d2lite.engine.train_loop import TrainerBase
from d2lite.utils.periods import is_due, is_last


def is_due_or_last(trainer: TrainerBase, *periods: int) -> bool:
    """Return whether one of the periods ends with the trainer's iteration, or the training does."""
    last = is_last(trainer.iter, trainer.max_iter)
    return last or any(is_due(trainer.iter, period) for period in periods)


def is_due_before_last(trainer: TrainerBase, period: int) -> bool:
    """Return whether a period ends with the trainer's iteration and another iteration follows.

    That is when the model is evaluated in training: after the last iteration, `after_train` does.
    """
    return is_due(trainer.iter, period) and not is_last(trainer.iter, trainer.max_iter)


@contextlib.contextmanager
def at_last_iteration(trainer: TrainerBase) -> Iterator[bool]:
    """In `before_train` of a run that is resumed, go back to the iteration before the first one.

    The run may have ended between saving its checkpoint and what came after that in the same
    iteration. Yields whether there is such an iteration.
    """
    if trainer.start_iter == 0:
        yield False
        return
    trainer.iter = trainer.storage.iter = trainer.start_iter - 1
    try:
        yield True
    finally:
        trainer.iter = trainer.storage.iter = trainer.start_iter
