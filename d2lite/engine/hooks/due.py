"""When a hook acts: every so many iterations, and where a resumed run goes on."""

import contextlib
from collections.abc import Iterator

from d2lite.engine.train_loop import TrainerBase


def is_due(iteration: int, period: int) -> bool:
    """Whether something with this period happens after `iteration` (from 0); 0 means never."""
    return period > 0 and (iteration + 1) % period == 0


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
