"""Optional packages, which the extras of setup.py install."""

import importlib
from types import ModuleType


def import_extra(module: str, extra: str, user: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: its dotted name.
        extra: the extra of setup.py that installs the package.
        user: what needs it, as the error's first words.

    Raises:
        ImportError: it cannot be imported; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{user} needs the package {package}: pip install 'd2lite[{extra}]' ({error})"
        ) from error
