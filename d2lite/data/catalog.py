"""The two catalogs: loading functions and metadata of datasets, by name.

A name is either registered (`DatasetCatalog.register`) or a URI such as
`coco:train.json?images=photos`, whose scheme, before the colon, is added by `register_scheme`. Both
catalogs accept both.
"""

import logging
import re
import types
import zlib
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from d2lite.utils.errors import ArgumentError, quoted
from d2lite.utils.registry import UnknownNameError, did_you_mean

logger = logging.getLogger(__name__)

# Two letters or more, so that the drive of a Windows path is not a scheme.
_SCHEME = re.compile(r"([a-z][a-z0-9_+.-]+):", re.IGNORECASE)


class ResolvedDataset(NamedTuple):
    """The dataset of a URI: a function that loads it, and its metadata."""

    load: Callable[[], list[dict]]
    metadata: dict[str, Any]


_SCHEMES: dict[str, Callable[[str], ResolvedDataset]] = {}


def register_scheme(scheme: str, resolver: Callable[[str], ResolvedDataset]) -> None:
    """Make `scheme:...` usable as a dataset name.

    Args:
        scheme: the part before the colon: two or more letters, lower case.
        resolver: takes the whole URI and returns its `ResolvedDataset`. It is called once per URI,
            should do quick checks, and raises ValueError or FileNotFoundError with a one-line
            message.
    Raises:
        ValueError: the scheme is malformed or already registered.
    """
    if not _SCHEME.fullmatch(f"{scheme}:") or scheme != scheme.lower():
        raise ValueError(
            f"dataset scheme {scheme!r} must be two or more lower-case letters, digits or '+-._'"
        )
    if scheme in _SCHEMES:
        raise ValueError(f"dataset scheme {scheme!r} is registered already")
    _SCHEMES[scheme] = resolver


def is_dataset_uri(name: str) -> bool:
    """Return whether `name` starts with a registered scheme and a colon."""
    return _scheme_of(name) in _SCHEMES


def file_stem(dataset_name: str) -> str:
    """Return a file name stem for a dataset: its name, or a short safe form of a URI.

    Different datasets get different stems, even if only their folders differ.
    """
    safe = re.sub(r"[^A-Za-z0-9_.+-]+", "_", dataset_name).strip("_")
    if safe == dataset_name and len(safe) <= 100:
        return dataset_name
    return f"{safe[:60]}_{zlib.crc32(dataset_name.encode()):08x}"


def _scheme_of(name: str) -> str:
    match = _SCHEME.match(name) if isinstance(name, str) else None
    return match[1].lower() if match else ""


def _resolve(uri: str) -> None:
    """Add the dataset of `uri` to both catalogs."""
    resolved = _SCHEMES[_scheme_of(uri)](uri)
    # Use the plain dicts, because lookups in the catalogs would resolve the URI again.
    DatasetCatalog.data[uri] = resolved.load
    MetadataCatalog.data[uri] = Metadata(name=uri).set(**resolved.metadata)


class _DatasetCatalog(UserDict):
    """Functions that load datasets, by name. Use its only instance, `DatasetCatalog`."""

    def register(self, name: str, func: Callable[[], list[dict]]) -> None:
        """Register a dataset.

        Args:
            name: such as "coco_2014_train"; must be new. Only a `functools.partial` equal to the
                registered one may be registered again, as when a notebook cell is rerun.
            func: takes no arguments and returns the dataset as a list of dicts; called for every
                `get`, and must return the same list each time.
        """
        assert callable(func), f"dataset {name!r} needs a function that returns it, not {func!r}"
        old = self.data.get(name)
        are_partials = isinstance(func, partial) and isinstance(old, partial)
        if are_partials and (func.func, func.args, func.keywords) == (
            old.func,
            old.args,
            old.keywords,
        ):
            return
        assert name not in self, f"dataset {name!r} is registered already; remove it first"
        self[name] = func

    def get(self, name: str) -> list[dict]:
        """Load the dataset of a name or URI.

        Raises:
            KeyError: the name is unknown; the message suggests the closest ones.
            ValueError, FileNotFoundError: the URI or its data are invalid.
        """
        if name not in self.data and is_dataset_uri(name):
            _resolve(name)
        if name in self.data:
            return self.data[name]()
        schemes = ", ".join(f"{scheme}:..." for scheme in sorted(_SCHEMES))
        known = sorted(known for known in self.data if not is_dataset_uri(known))
        hint = did_you_mean(str(name), known) or did_you_mean(f"{_scheme_of(name)}:...", _SCHEMES)
        hint = hint or f" DatasetCatalog.list() has the {len(known)} known names."
        raise UnknownNameError(
            f"dataset {name!r} is not registered.{hint} "
            f"A dataset can also be given as a URI ({schemes}), "
            "such as 'coco:train.json?images=photos'."
        )

    def list(self) -> list[str]:
        """Return the names of all registered datasets."""
        return list(self.keys())

    def remove(self, name: str) -> None:
        """Remove the dataset `name`, but not its metadata; see `MetadataCatalog.remove`."""
        self.pop(name)

    def __str__(self) -> str:
        return f"DatasetCatalog(registered datasets: {', '.join(self.keys())})"

    __repr__ = __str__


class Metadata(types.SimpleNamespace):
    """Metadata of a dataset as attributes: class names, colors, files, evaluator type.

    An attribute can't be changed to a different value, so that two parts of a program can't
    disagree about a dataset. Example: `Metadata(name="x").set(thing_classes=["cat"])`.
    """

    name: str = "N/A"

    # Attributes renamed in detectron2; old projects may still use the left one.
    _RENAMED = {
        "class_names": "thing_classes",
        "dataset_id_to_contiguous_id": "thing_dataset_id_to_contiguous_id",
        "stuff_class_names": "stuff_classes",
    }

    def __getattr__(self, key: str) -> Any:
        """Raise an AttributeError that lists the existing attributes; old names are mapped."""
        if key in self._RENAMED:
            logger.warning("Metadata %r is now called %r", key, self._RENAMED[key])
            return getattr(self, self._RENAMED[key])
        if key.startswith("__"):  # copy and pickle probe for these
            raise AttributeError(key)
        known = sorted(self.__dict__)
        if len(known) <= 1:
            raise AttributeError(
                f"Attribute {key!r} does not exist in the metadata of dataset {self.name!r}: "
                "the metadata are empty. Is the name right, and is the dataset registered?"
            )
        raise AttributeError(
            f"Attribute {key!r} does not exist in the metadata of dataset {self.name!r}."
            f"{did_you_mean(key, known)} It has: {', '.join(known)}."
        )

    def __setattr__(self, key: str, val: Any) -> None:
        """Set an attribute; raise an AssertionError if it already has a different value.

        Class names must be a list or similar: a string would be iterated letter by letter, a dict
        by its keys.
        """
        key = self._RENAMED.get(key, key)
        if key in ("thing_classes", "stuff_classes") and val is not None:
            if isinstance(val, (str, Mapping)) or not isinstance(val, Iterable):
                raise ArgumentError(
                    f"{key} of {self.name!r} is {quoted(val)}; expected a list of names"
                )
            if isinstance(val, np.ndarray):
                val = val.tolist()  # arrays don't compare like lists
        if key in self.__dict__:
            old = self.__dict__[key]
            assert old == val, (
                f"Attribute {key!r} in the metadata of {self.name!r} cannot be set to a different "
                f"value: it is {quoted(old)}, the new value is {quoted(val)}"
            )
        else:
            super().__setattr__(key, val)

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of all attributes as a dict."""
        return dict(self.__dict__)

    def set(self, **kwargs: Any) -> "Metadata":
        """Set several attributes, and return self."""
        for key, value in kwargs.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Return the attribute `key`, or `default` if it does not exist."""
        return self.__dict__.get(self._RENAMED.get(key, key), default)


class _MetadataCatalog(UserDict):
    """Metadata of datasets, by name. Use its only instance, `MetadataCatalog`."""

    def get(self, name: str) -> Metadata:
        """Return the `Metadata` of `name`, created empty at the first call or filled from a URI.

        Raises:
            ValueError, FileNotFoundError: the URI or its data are invalid.
        """
        assert isinstance(name, str) and name, f"a dataset name is a string, not {name!r}"
        if name not in self.data and is_dataset_uri(name):
            _resolve(name)
        return self.data.setdefault(name, Metadata(name=name))

    def list(self) -> list[str]:
        """Return the names that have metadata, loaded or not."""
        return list(self.keys())

    def remove(self, name: str) -> None:
        """Remove the metadata of `name`."""
        self.pop(name)

    def __str__(self) -> str:
        return f"MetadataCatalog(registered metadata: {', '.join(self.keys())})"

    __repr__ = __str__


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
