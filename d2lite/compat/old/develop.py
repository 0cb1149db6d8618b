"""Placeholders for objects of a missing optional package, which raise an error when used."""

from typing import Any


def _message(name: str, dependency: str | list[str] | tuple[str, ...], message: str) -> str:
    if not isinstance(dependency, str):
        dependency = ", ".join(dependency)
    text = f"{name} needs {dependency}, which cannot be imported; install it first."
    return f"{text} {message}" if message else text


def create_dummy_class(klass: str, dependency: str, message: str = "") -> type:
    """Return a class that raises ImportError when it is instantiated or its attributes are used.

    Args:
        klass: name of the class.
        dependency: name of the missing package.
        message: additional text.
    """
    text = _message(klass, dependency, message)

    class _DummyMeta(type):
        def __getattr__(cls, name: str) -> Any:
            if name.startswith("__"):  # used by inspection and pickling, not by users
                raise AttributeError(name)
            raise ImportError(text)

    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise ImportError(text)

    return _DummyMeta(klass, (), {"__init__": refuse})


def create_dummy_func(func: str, dependency: str | list[str], message: str = "") -> Any:
    """Return a function that raises ImportError when it is called.

    Args:
        func: name of the function.
        dependency: name or names of the missing packages.
        message: additional text.
    """
    text = _message(func, dependency, message)

    def dummy(*args: Any, **kwargs: Any) -> None:
        raise ImportError(text)

    dummy.__name__ = func
    return dummy
