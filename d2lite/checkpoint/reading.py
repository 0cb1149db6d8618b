"""Read checkpoint files without trusting them.

All pickles go through `PlainUnpickler`, which only allows arrays, tensors and plain containers.
Files of PyTorch are then loaded by `torch.load`, which itself checks neither checksums nor sizes.
The format is recognized by the content of a file; its name matters only for formats that projects
add to `READERS`.
"""

import importlib
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from d2lite.utils.errors import file_errors, quoted, reason_of
from d2lite.utils.file_io import PathManager
from d2lite.utils.plain_pickle import PLAIN_GLOBALS, Named, PlainUnpickler, RefusedGlobalError

# Formats of other programs, by the end of the file name. The reader gets the name, and returns a
# dict with the weights under "model": names to tensors or arrays. It raises CheckpointFileError.
READERS: dict[str, Callable[[str], dict[str, Any]]] = {}

ZIP_MAGIC = b"PK\x03\x04"
# Files that torch.save wrote before version 1.6 start with the pickle of a fixed number.
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
# A pickle starts with its protocol; those of protocols 0 and 1, from Python 2, with a dict or list.
PICKLE_MAGICS = (b"\x80", b"(dp", b"(lp", b"}q", b"]q", b"ccollections")


class CheckpointFileError(ValueError):
    """A checkpoint file is damaged, unsafe, or not a checkpoint at all."""


class CheckpointNotFoundError(FileNotFoundError, AssertionError):
    """A checkpoint file does not exist; an AssertionError as in detectron2 (from fvcore)."""


def read_checkpoint_file(path: str | Path) -> Any:
    """Load the content of a checkpoint file on the CPU: tensors, arrays, numbers and containers.

    Args:
        path: a `.pth` of `torch.save`, a pickle such as detectron2's and Caffe2's `.pkl`, or a
            format of one of `READERS`.

    Raises:
        CheckpointFileError: the file is damaged, is not a checkpoint, or contains other objects,
            which could run code; the message names the file and the object.
    """
    path = Path(path)
    for ending, reader in READERS.items():
        if path.name.endswith(ending):
            with file_errors(
                CheckpointFileError, path, f"not a {ending} file", known=(FileNotFoundError,)
            ):
                return reader(str(path))
    head = _head(path)
    if head.startswith((ZIP_MAGIC, LEGACY_TORCH_MAGIC)):
        return _load_torch(path)
    if head.startswith(PICKLE_MAGICS):
        try:
            with path.open("rb") as file:
                return PlainUnpickler(file, path.stat().st_size).load()
        except RefusedGlobalError as refused:
            raise _unsafe(path, str(refused)) from None
        except (pickle.UnpicklingError, MemoryError) as error:
            raise _damaged(path, error) from error
    found = f"it starts with {head[:24]!r}" if head.strip(b"\0") else "it is empty"
    raise CheckpointFileError(
        f"{path} is not a checkpoint: {found}. Expected a .pth written by torch.save or a .pkl "
        "of detectron2, Detectron or Caffe2"
    )


def read_about(path: str | Path) -> dict[str, Any]:
    """Read only a checkpoint's description of itself, without its tensors.

    Args:
        path: a local file.

    Returns:
        "version", "config_kind", "config" and "metadata", as `Checkpointer.save` writes them for
        a model of `build_model`; {} for the checkpoints of other programs.

    Raises:
        CheckpointFileError: the file is damaged or unsafe.
    """
    path = Path(path)
    if path.name.endswith(tuple(READERS)) or not _is_zip(path):
        return {}
    return about_of(_load_torch(path, mmap=True), path)


def about_of(checkpoint: Any, path: str | Path) -> dict[str, Any]:
    """Return the description of itself of a checkpoint read from `path`, as `read_about` does."""
    about = checkpoint.get("about") if isinstance(checkpoint, dict) else None
    if not isinstance(about, dict) or "config_kind" not in about:  # another program's
        return {}
    if not all(isinstance(about.get(key), dict) for key in ("config", "metadata")):
        raise _damaged(path, "its entry 'about' has no 'config' and 'metadata'")
    return about


def _load_torch(path: Path, mmap: bool = False) -> Any:
    try:
        if _is_zip(path):
            _verify_zip(path, checksums=not mmap)
        else:
            _verify_legacy(path)
        with torch.serialization.safe_globals(_array_globals()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except RefusedGlobalError as refused:
        raise _unsafe(path, str(refused)) from None
    except Exception as error:  # zipfile and torch raise errors of any type
        raise _damaged(path, reason_of(error)) from error


def _head(path: Path) -> bytes:
    with (
        file_errors(CheckpointFileError, path, "cannot be read", known=(FileNotFoundError,)),
        PathManager.open(str(path), "rb") as file,
    ):
        return file.read(64)


def _is_zip(path: Path) -> bool:
    return _head(path).startswith(ZIP_MAGIC)


def _array_globals() -> list[Any]:
    """Return the globals that torch.load needs for numpy arrays and scalars, by old and new names.

    RNG states and values of hooks are such arrays and scalars. `_verify_zip` and `_verify_legacy`
    have already checked them.
    """
    renamed = int(np.__version__.partition(".")[0]) >= 2  # numpy.core became numpy._core
    multiarray = importlib.import_module(f"numpy.{'_core' if renamed else 'core'}.multiarray")
    functions = [
        (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
        for name in ("_reconstruct", "scalar")
        for core in ("core", "_core")
    ]
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefdFDSU"}
    return [*functions, np.ndarray, np.dtype, *dtypes]


def _verify_zip(path: Path, checksums: bool) -> None:
    """Raise unless torch.load will read exactly what torch.save wrote into a zip file.

    torch.load does not compare checksums. If a record is empty, a folder, or shorter than its
    tensor according to the directory, it reads nothing and leaves the memory uninitialized.

    Args:
        checksums: whether to read the whole file and compare the checksums.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        file.seek(size - 22)
        if file.read(4) != b"PK\5\6":
            raise ValueError("it does not end with the directory of a zip file")
        records = archive.infolist()
        if len({record.filename.lower() for record in records}) != len(records):
            raise ValueError("it has two records with the same name")
        if sum(record.file_size for record in records) > size:
            raise ValueError("its records claim to be larger than the file")
        reader = torch._C.PyTorchFileReader(str(path))
        for record in records:
            _verify_record(record, file, reader)
        damaged = archive.testzip() if checksums else None
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        sizes = {r.filename.partition("/")[2]: r.file_size for r in records}
        if "data.pkl" not in sizes:
            raise ValueError("it has no record data.pkl")
        folder = records[0].filename.partition("/")[0]
        with archive.open(f"{folder}/data.pkl") as content:
            unpickler = _TorchUnpickler(content, sizes["data.pkl"])
            unpickler.load()
        for key, needed in unpickler.storages.items():
            if sizes.get(f"data/{key}") != needed:
                raise ValueError(
                    f"its record data/{key} has {sizes.get(f'data/{key}', 'no')} bytes, and its "
                    f"tensors {needed}"
                )


def _verify_record(record: zipfile.ZipInfo, file: IO[bytes], reader: Any) -> None:
    """Raise unless Python and torch see the same record of a zip file."""
    name = record.filename
    if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & ~0x0808:
        raise ValueError(
            f"its record {name} is compressed or encrypted, which torch.save never does"
        )
    if record.compress_size != record.file_size or record.is_dir() or record.external_attr & 0x10:
        raise ValueError(f"its record {name} has an inconsistent size in the directory")
    file.seek(record.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != ZIP_MAGIC:
        raise ValueError(f"its record {name} is not where the directory says")
    start = record.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
    short_name = name.partition("/")[2]
    if reader.get_record_offset(short_name) != start:
        raise ValueError(f"its record {name} is not where its header says")


def _verify_legacy(path: Path) -> None:
    """Raise unless a file in torch.save's format before version 1.6 contains all its storages.

    Five pickles (magic number, protocol, system, content, keys of storages) come before the bytes
    of the storages. torch.load would allocate whatever sizes they state.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        storages: dict[str, int] = {}
        for _ in range(5):
            unpickler = _TorchUnpickler(file, size - file.tell())
            unpickler.load()
            storages |= unpickler.storages
        if sum(storages.values()) > size - file.tell():
            raise ValueError("it ends before the last of its tensors")


class _TorchUnpickler(PlainUnpickler):
    """Unpickler for the description of the tensors in a file of torch.save, without their data."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(file, size, _TORCH_GLOBALS)
        self.storages: dict[str, int] = {}  # bytes of each storage by its key

    def persistent_load(self, pid: Any) -> "_Storage":
        tag, kind, key, _location, numel, *_view = pid
        name = kind.name.removeprefix("torch.") if isinstance(kind, Named) else ""
        if tag != "storage" or name not in _STORAGE_BYTES or not isinstance(key, str):
            raise pickle.UnpicklingError(f"it has a storage of type {quoted(name)}")
        if type(numel) is not int or not 0 <= numel < 2**48:
            raise pickle.UnpicklingError(f"it has a storage of {numel!r:.40} elements")
        storage = _Storage(numel * _STORAGE_BYTES[name], _STORAGE_BYTES[name])
        if self.storages.setdefault(key, storage.bytes) != storage.bytes:
            raise pickle.UnpicklingError(f"it has two sizes for the storage {quoted(key)}")
        return storage


class _Storage:
    def __init__(self, n_bytes: int, item: int) -> None:
        self.bytes, self.item = n_bytes, item


class _Tensor:
    """A tensor whose data was not read."""


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> _Tensor:
    if isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 64:
        numbers = (offset, *size, *stride)
    else:
        numbers = ()
    plain = numbers and all(type(n) is int and 0 <= n < 2**48 for n in numbers)
    if not plain or not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("it has a tensor whose shape does not consist of numbers")
    dtype = next(
        (_DTYPES[x.name] for x in rest if isinstance(x, Named) and x.name in _DTYPES), None
    )
    item = dtype.itemsize if dtype else storage.item
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and (last + 1) * item > storage.bytes:
        raise pickle.UnpicklingError("it has a tensor that reaches beyond its storage")
    if math.prod(size) > max(storage.bytes // item, _MAX_REPEATED):
        raise pickle.UnpicklingError("it has a tensor that repeats a few values without end")
    return _Tensor()


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _size(values: Any = ()) -> tuple:
    if not isinstance(values, tuple | list) or not all(type(value) is int for value in values):
        raise pickle.UnpicklingError("it has a torch.Size that does not consist of integers")
    return tuple(values)


def _rebuild_from_type(function: Any, _type: Any, args: Any, _state: Any) -> Any:
    if not isinstance(function, Named) or function.make not in (_tensor, _parameter):
        raise pickle.UnpicklingError("it has a tensor that is built by an unknown function")
    return function.make(*args)


# Maximum number of elements of an expanded view, if the file has fewer.
_MAX_REPEATED = 2**24
_DTYPES: dict[str, torch.dtype] = {
    f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)
}
_STORAGE_BYTES: dict[str, int] = {  # of one element
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("UntypedStorage", "storage.UntypedStorage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
_TORCH_MAKERS: dict[str, Callable[..., Any] | None] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "torch.Size": _size,
    "torch.device": lambda *_: None,
    "torch.Tensor": None,
    "torch.nn.parameter.Parameter": None,
    **dict.fromkeys(_DTYPES),
    **dict.fromkeys(f"torch.{name}" for name in _STORAGE_BYTES),
}
_TORCH_GLOBALS: Mapping[str, Named] = {
    **PLAIN_GLOBALS,
    **{name: Named(name, make) for name, make in _TORCH_MAKERS.items()},
}


def _damaged(path: str | Path, why: object) -> CheckpointFileError:
    reason = " ".join(str(why).split()) or type(why).__name__
    return CheckpointFileError(
        f"{path} is damaged, or not a checkpoint: {reason[:200]}. "
        "Copy or download it again, or use another checkpoint"
    )


def _unsafe(path: Path, name: str) -> CheckpointFileError:
    return CheckpointFileError(
        f"{path} refers to {name}, which is not plain data and could run code, so it is not "
        "loaded. Have its author save only tensors, numbers, strings and containers of them"
    )
