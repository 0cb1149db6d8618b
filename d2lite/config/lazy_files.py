"""Run a Python config file; its relative imports refer to config files next to it."""

import ast
import builtins
import os
from types import ModuleType
from typing import Any

from omegaconf import DictConfig

from d2lite.utils.file_io import PathManager, read_text

# Name of the package that config files appear to be in; relative imports need one.
_PACKAGE = "d2lite_config_files"


def load_python_config(filename: str) -> dict[str, Any]:
    """Run a config file and return its global names.

    The file is run again for every call and every import, so that a config that modifies an
    imported object does not affect other configs.

    Raises:
        FileNotFoundError: the file does not exist.
        SyntaxError: the file is not valid Python.
    """
    return vars(_run(filename))


def to_config(value: Any) -> Any:
    """Return a dict as a DictConfig that may hold any object; other values unchanged."""
    if isinstance(value, dict):
        return DictConfig(value, flags={"allow_objects": True})
    return value


def _run(filename: str) -> ModuleType:
    if not PathManager.isfile(filename):
        raise FileNotFoundError(f"Config file {filename} not found")
    source = read_text(filename)
    tree = ast.parse(source, filename)
    module = ModuleType(f"{_PACKAGE}.{os.path.basename(filename).removesuffix('.py')}")
    module.__file__ = filename
    module.__package__ = _PACKAGE
    # Import statements look up __import__ in the builtins of the running code, so the rest of the
    # program is not affected.
    module.__builtins__ = {**vars(builtins), "__import__": _import_from_config}
    exec(compile(tree, filename, "exec"), vars(module))
    return module


def _import_from_config(
    name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
) -> Any:
    """Implement `__import__` for config files: relative imports load config files, others work as
    usual."""
    if level == 0:
        return builtins.__import__(name, globals, locals, fromlist, level)
    # The file that `from <level dots><name> import ...` refers to.
    folder = os.path.dirname(globals["__file__"])
    for _ in range(level - 1):
        folder = os.path.dirname(folder)
    path = os.path.join(folder, *name.split(".")) if name else folder
    filename = os.path.join(path, "__init__.py") if os.path.isdir(path) else f"{path}.py"
    if filename.endswith("__init__.py") and not os.path.isfile(filename):
        package = ModuleType(_PACKAGE)  # from .folder import a
        for module_name in fromlist:
            module_file = os.path.join(os.path.dirname(filename), f"{module_name}.py")
            setattr(package, module_name, _run_imported(module_file, globals["__file__"]))
        return package
    module = _run_imported(filename, globals["__file__"])
    for imported in fromlist or ():
        if imported == "*" or not hasattr(module, imported):
            continue  # the import statement itself reports missing names
        setattr(module, imported, to_config(getattr(module, imported)))
    return module


def _run_imported(filename: str, importer: str) -> ModuleType:
    if not PathManager.isfile(filename):
        raise ImportError(f"{importer}: imported config file {filename} not found")
    return _run(filename)
