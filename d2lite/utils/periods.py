"""When something happens in training: every so many iterations, and at the last one."""


def is_due(iteration: int, period: int) -> bool:
    """Return whether something with this period happens after `iteration` (from 0); 0 is never."""
    return period > 0 and (iteration + 1) % period == 0


def is_last(iteration: int, max_iter: int) -> bool:
    """Return whether no iteration follows this one in a training of `max_iter` iterations."""
    return iteration + 1 >= max_iter
