"""The two catalogs: what a dataset's name refers to, and what is known about it.

A name is either registered (`DatasetCatalog.register`) or a URI such as
`coco:train.json?images=photos`, whose part before the colon names a scheme added by
`register_scheme`. Both catalogs take either.
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

from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import UnknownNameError, did_you_mean

logger = logging.getLogger(__name__)

# Two letters or more, so that the drive of a Windows path is no scheme.
_SCHEME = re.compile(r"([a-z][a-z0-9_+.-]+):", re.IGNORECASE)


class ResolvedDataset(NamedTuple):
    """What a dataset URI refers to: how to load it, and its metadata by key."""

    load: Callable[[], list[dict]]
    metadata: dict[str, Any]


_SCHEMES: dict[str, Callable[[str], ResolvedDataset]] = {}


def register_scheme(scheme: str, resolver: Callable[[str], ResolvedDataset]) -> None:
    """Make `scheme:...` usable wherever a dataset name is.

    Args:
        scheme: the letters before the colon, two or more, lower case.
        resolver: takes the whole URI and returns its `ResolvedDataset`. It runs once per URI,
            should check what can be checked quickly, and raises ValueError or FileNotFoundError
            with one line that tells what is wrong.
    Raises:
        ValueError: the scheme is malformed or taken.
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
    """Return a name for files made for a dataset: itself, or for a URI a short safe form of it.

    Different datasets get different stems, also when only their folders differ.
    """
    safe = re.sub(r"[^A-Za-z0-9_.+-]+", "_", dataset_name).strip("_")
    if safe == dataset_name and len(safe) <= 100:
        return dataset_name
    return f"{safe[:60]}_{zlib.crc32(dataset_name.encode()):08x}"


def _scheme_of(name: str) -> str:
    match = _SCHEME.match(name) if isinstance(name, str) else None
    return match[1].lower() if match else ""


def _resolve(uri: str) -> None:
    """Enter the dataset of `uri` into both catalogs."""
    resolved = _SCHEMES[_scheme_of(uri)](uri)
    # Into the plain dictionaries: the catalogs' own look-ups would ask for the URI again.
    DatasetCatalog.data[uri] = resolved.load
    MetadataCatalog.data[uri] = Metadata(name=uri).set(**resolved.metadata)


class _DatasetCatalog(UserDict):
    """Functions that load datasets, by name. Use the one instance, `DatasetCatalog`."""

    def register(self, name: str, func: Callable[[], list[dict]]) -> None:
        """Give a dataset a name.

        Args:
            name: such as "coco_2014_train"; must be new, but for a `functools.partial` equal to the
                registered one: a notebook cell may register the same files again.
            func: takes nothing and returns the dataset as a list of dicts; called once for every
                `get`, and expected to return the same list each time.
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
        """Load the dataset called `name`, or the one a URI describes.

        Raises:
            KeyError: no such name; the message has the nearest ones.
            ValueError, FileNotFoundError: a URI or its data are at fault.
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
        """Forget the dataset `name`. Its metadata stay; see `MetadataCatalog.remove`."""
        self.pop(name)

    def __str__(self) -> str:
        return f"DatasetCatalog(registered datasets: {', '.join(self.keys())})"

    __repr__ = __str__


class Metadata(types.SimpleNamespace):
    """What is known about a dataset, as attributes: class names, colors, files, evaluator.

    A value may be set again only to an equal value, so that two parts of a program cannot
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
        """Only for missing attributes: an AttributeError that lists those that exist."""
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
        """Set an attribute; AssertionError when it has another value already.

        Names of classes must be a list or the like: a single text would be taken letter by letter,
        a dict by its keys.
        """
        key = self._RENAMED.get(key, key)
        if key in ("thing_classes", "stuff_classes") and val is not None:
            if isinstance(val, (str, Mapping)) or not isinstance(val, Iterable):
                raise ArgumentError(
                    f"{key} of {self.name!r} is {_shorten(val)}; expected a list of names"
                )
            if isinstance(val, np.ndarray):
                val = val.tolist()  # arrays don't compare like lists
        if key in self.__dict__:
            old = self.__dict__[key]
            assert old == val, (
                f"Attribute {key!r} in the metadata of {self.name!r} cannot be set to a different "
                f"value: it is {_shorten(old)}, the new value is {_shorten(val)}"
            )
        else:
            super().__setattr__(key, val)

    def as_dict(self) -> dict[str, Any]:
        """All attributes in a new dict; changing it does not change the metadata."""
        return dict(self.__dict__)

    def set(self, **kwargs: Any) -> "Metadata":
        """Set several attributes; returns itself."""
        for key, value in kwargs.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Return the attribute `key`, or `default` when there is none."""
        return self.__dict__.get(self._RENAMED.get(key, key), default)


def _shorten(value: Any, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


class _MetadataCatalog(UserDict):
    """Metadata of datasets, by name. Use the one instance, `MetadataCatalog`."""

    def get(self, name: str) -> Metadata:
        """Return the one `Metadata` of `name`; made empty at the first call, or filled from a URI.

        Raises:
            ValueError, FileNotFoundError: a URI or its data are at fault.
        """
        assert isinstance(name, str) and name, f"a dataset name is a string, not {name!r}"
        if name not in self.data and is_dataset_uri(name):
            _resolve(name)
        return self.data.setdefault(name, Metadata(name=name))

    def list(self) -> list[str]:
        """Return the names that have metadata, loaded or not."""
        return list(self.keys())

    def remove(self, name: str) -> None:
        """Forget the metadata of `name`."""
        self.pop(name)

    def __str__(self) -> str:
        return f"MetadataCatalog(registered metadata: {', '.join(self.keys())})"

    __repr__ = __str__


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
