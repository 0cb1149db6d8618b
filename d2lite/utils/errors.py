"""The error of wrong arguments."""

__all__ = ["ArgumentError"]


class ArgumentError(AssertionError, ValueError, TypeError):
    """An argument or setting that cannot be used.

    It is raised where detectron2 has an assertion, which programs may catch as such; those that do
    not know so expect a ValueError or, of a wrong type, a TypeError.
    """
