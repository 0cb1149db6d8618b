"""Rules for periodic events in training: when one is due, and which iteration is the last."""


def is_due(iteration: int, period: int) -> bool:
    """Return whether an event with this period is due after `iteration` (from 0); 0 means never."""
    return period > 0 and (iteration + 1) % period == 0


def is_last(iteration: int, max_iter: int) -> bool:
    """Return whether this is the last of `max_iter` iterations."""
    return iteration + 1 >= max_iter
