"""Read checkpoint files without trusting them.

PyTorch files are loaded with `weights_only=True`, other pickles by an unpickler that knows arrays
and plain containers only. The format is told by a file's content; its name matters for formats
that projects add to `READERS` alone.
"""

import collections
import importlib
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["READERS", "CheckpointFileError", "read_about", "read_checkpoint_file"]

# Formats of other programs, by the ending of a file's name. The reader gets the name, and returns a
# dict with the weights under "model": names to tensors or arrays. It raises CheckpointFileError.
READERS: dict[str, Callable[[str], dict[str, Any]]] = {}

ZIP_MAGIC = b"PK\x03\x04"
# What torch.save wrote before version 1.6: the pickle of a fixed number comes first.
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
# A pickle starts with its protocol; those of protocols 0 and 1, from Python 2, with a dict or list.
PICKLE_MAGICS = (b"\x80", b"(dp", b"(lp", b"}q", b"]q", b"ccollections")


class CheckpointFileError(ValueError):
    """A checkpoint file is damaged, unsafe, or no checkpoint at all."""


class CheckpointNotFoundError(FileNotFoundError, AssertionError):
    """A checkpoint file does not exist; fvcore's checkpointer, and so detectron2's, asserts it."""


def read_checkpoint_file(path: str | Path) -> Any:
    """Load what a checkpoint file holds, on the CPU: tensors, arrays, numbers and containers.

    Args:
        path: a `.pth` of `torch.save`, a pickle such as detectron2's and Caffe2's `.pkl`, or what
            one of `READERS` reads.

    Raises:
        CheckpointFileError: the file is damaged, is no checkpoint, or holds other objects than
            those, which could run code; the message names the file and the object.
    """
    path = Path(path)
    for ending, reader in READERS.items():
        if path.name.endswith(ending):
            return reader(str(path))
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(ZIP_MAGIC):
        _verify_zip(path)
        return _load_torch(path)
    if head.startswith(LEGACY_TORCH_MAGIC):
        return _load_torch(path)
    if head.startswith(PICKLE_MAGICS):
        return _load_pickle(path)
    found = f"it starts with {head[:24]!r}" if head.strip(b"\0") else "it is empty"
    raise CheckpointFileError(
        f"{path} is not a checkpoint: {found}. Expected a .pth written by torch.save or a .pkl "
        "of detectron2, Detectron or Caffe2"
    )


def read_about(path: str | Path) -> dict[str, Any]:
    """Read only what a checkpoint says of itself, without its tensors.

    Args:
        path: a local file.

    Returns:
        "version", "config_kind", "config" and "metadata", as `Checkpointer.save` writes them for
        a model of `build_model`; {} for the checkpoints of other programs.

    Raises:
        CheckpointFileError: the file is damaged or unsafe.
    """
    path = Path(path)
    with path.open("rb") as file:
        if path.name.endswith(tuple(READERS)) or file.read(4) != ZIP_MAGIC:
            return {}
    data = _load_torch(path, mmap=True)
    about = data.get("about") if isinstance(data, dict) else None
    if not isinstance(about, dict):
        return {}
    if not all(isinstance(about.get(key), dict) for key in ("config", "metadata")):
        raise _damaged(path, "its entry 'about' has no 'config' and 'metadata'")
    return about


def _verify_zip(path: Path) -> None:
    """Compare every record with its checksum, which torch.load does not do."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, OSError) as error:
        raise _damaged(path, error) from error
    if damaged is not None:
        raise _damaged(path, f"the checksum of {damaged} differs")


def _load_torch(path: Path, mmap: bool = False) -> Any:
    try:
        with torch.serialization.safe_globals(_plain_array_globals()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise _unsafe(path, refused.group(1)) from None
        raise _damaged(path, str(error).partition("\n")[0]) from error
    except Exception as error:  # torch raises whatever its reader meets
        raise _damaged(path, error) from error


def _plain_array_globals() -> list[Any]:
    """What the pickle of a numpy array or scalar refers to, under its old and new names.

    RNG states and figures of hooks are such arrays and scalars.
    """
    renamed = int(np.__version__.partition(".")[0]) >= 2  # numpy.core became numpy._core
    multiarray = importlib.import_module(f"numpy.{'_core' if renamed else 'core'}.multiarray")
    functions = [
        (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
        for name in ("_reconstruct", "scalar")
        for core in ("core", "_core")
    ]
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefdFD"}
    return [*functions, np.ndarray, np.dtype, *dtypes]


def _load_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        try:
            # latin1 keeps the bytes of arrays that Python 2 pickled as text.
            return _PlainUnpickler(file, encoding="latin1").load()
        except _RefusedGlobal as refused:
            raise _unsafe(path, str(refused)) from None
        except Exception as error:  # a damaged pickle can fail in any way
            raise _damaged(path, error) from error


class _RefusedGlobal(Exception):
    """The name of something that a pickle refers to and that is not plain data."""


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler of numpy arrays and plain containers, which can run no code from the file."""

    def find_class(self, module: str, name: str) -> Any:
        # Python 2's and numpy 1's names for the same things.
        module = {"__builtin__": "builtins"}.get(
            module, module.replace("numpy.core", "numpy._core")
        )
        try:
            return _PICKLE_GLOBALS[f"{module}.{name}"]
        except KeyError:
            raise _RefusedGlobal(f"{module}.{name}") from None


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the pickle protocols of Python 2."""
    if encoding != "latin1":
        raise ValueError(f"bytes in encoding {encoding!r}")
    return text.encode("latin1")


def _array_from_buffer(buffer: Any, dtype: np.dtype, shape: tuple, order: str, *_: Any) -> Any:
    return np.frombuffer(bytearray(buffer), dtype=dtype).reshape(shape, order=order)


def _numpy_globals() -> dict[str, Any]:
    plain = {}
    for item in _plain_array_globals():
        if isinstance(item, tuple):
            plain[item[1]] = item[0]
        else:
            plain[f"{item.__module__}.{item.__name__}"] = item
    return plain


_PICKLE_GLOBALS: dict[str, Any] = {
    **_numpy_globals(),
    "numpy._core.numeric._frombuffer": _array_from_buffer,
    "_codecs.encode": _latin1_bytes,
    "collections.OrderedDict": collections.OrderedDict,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.bytearray": bytearray,
    "builtins.complex": complex,
}


def _damaged(path: Path, why: object) -> CheckpointFileError:
    reason = " ".join(str(why).split()) or type(why).__name__
    return CheckpointFileError(
        f"{path} is damaged, or not a checkpoint: {reason[:200]}. "
        "Copy or download it again, or use another checkpoint"
    )


def _unsafe(path: Path, name: str) -> CheckpointFileError:
    return CheckpointFileError(
        f"{path} refers to {name}, which is not plain data and could run code, so it is not "
        "loaded. Have its author save tensors, numbers, strings and containers of them only"
    )
