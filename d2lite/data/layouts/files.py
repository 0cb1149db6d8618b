"""The files of a folder of data: listed once, with a search for the images they name."""

import codecs
import itertools
import os
import re
import unicodedata
from collections import defaultdict

from d2lite.data.layouts.labeled import ALL
from d2lite.utils.errors import ArgumentError
from d2lite.utils.file_io import read_text

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jp2", ".avif", ".ppm"),
)
JsonKeys = tuple[set[str], set[str], set[str]]
_SPLIT_NAMES = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def split_of(path: str) -> str:
    """Return the split that a relative path names: "train", "val", "test", or "all" for none.

    The last part of the path that names one decides: `train/labels/val.csv` is "val". Digits and
    punctuation separate words, as in `instances_train2017.json`.
    """
    for part in reversed(path.replace("\\", "/").split("/")):
        words = set(re.split(r"[\W\d_]+", part.lower()))
        for split, names in _SPLIT_NAMES.items():
            if not words.isdisjoint(names):
                return split
    return ALL


class Folder:
    """The files below a folder, by paths relative to it with forward slashes.

    Files and folders whose names start with a dot are left out, and so are folders of runs.

    Attributes:
        root: the folder.
        files: relative paths, sorted.
        images: those with the extension of an image.
        only: the relative path of the annotation file, if the path given was that of a file.
    """

    def __init__(self, path: str):
        """
        Args:
            path: a folder, or an annotation file. Its images are looked for in its folder, and
                if that has none or is called "annotations" or "labels", in the folder above.

        Raises:
            ArgumentError: the folder or file does not exist, or it is empty.
        """
        path = os.path.expanduser(os.fspath(path))
        if not os.path.exists(path):
            raise ArgumentError(f"{path}: folder or file not found")
        self.only: str | None = None
        self._json_keys: dict[str, JsonKeys] = {}
        self.root = path
        if os.path.isfile(path):
            self.root = os.path.dirname(path) or "."
            above = os.path.dirname(os.path.abspath(self.root))
            self._list()
            if not self.images or os.path.basename(self.root).lower() in ("annotations", "labels"):
                self.root = above
                self._list()
            self.only = os.path.relpath(path, self.root).replace(os.sep, "/")
        else:
            self._list()
        if not self.files:
            raise ArgumentError(f"{path}: the folder has no files")

    def _list(self) -> None:
        self.files: list[str] = []
        seen = set()
        for folder, folders, names in os.walk(self.root, followlinks=True):
            real = os.path.realpath(folder)
            is_run = folder != self.root and {"config.yaml", "log.txt"} <= set(names)
            if real in seen or is_run:  # seen: a link leads back
                folders.clear()
                continue
            seen.add(real)
            folders[:] = [f for f in folders if f not in _NOT_DATA and not f.startswith(".")]
            below = os.path.relpath(folder, self.root).replace(os.sep, "/")
            prefix = "" if below == "." else f"{below}/"
            self.files += [f"{prefix}{name}" for name in names if not name.startswith(".")]
        self.files.sort()
        self.images = [f for f in self.files if f.lower().endswith(IMAGE_SUFFIXES)]
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for image in self.images:
            name = _key(image.rpartition("/")[2])
            self._by_name[name].append(image)
            self._by_stem[os.path.splitext(name)[0]].append(image)

    def path(self, relative: str) -> str:
        """Return the path that opens a file."""
        return os.path.join(self.root, *relative.split("/"))

    def candidates(self, *suffixes: str) -> list[str]:
        """Return the files with these extensions; if a file was given, at most that one."""
        files = self.files if self.only is None else [self.only]
        return [file for file in files if file.lower().endswith(suffixes)]

    def find_image(self, name: str, near: str = "") -> str | None:
        """Return the path of the image that an annotation file names, or None.

        Paths are compared from their end, since annotation files come from other machines, whose
        outer folders have other names. Case, backslashes and the Unicode form of accents do not
        matter, nor does the extension if the name has none or no image has exactly this name.

        Args:
            name: the name in the file: a path, a file name, or one without its extension.
            near: the relative path of the annotation file, or a split's name; of several images
                with the same name, the one in the same folder or in that split is chosen.
        Raises:
            ValueError: several images fit equally well.
        """
        parts = [_key(part) for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return None
        found = self._by_name.get(parts[-1])
        if not found:
            stem, suffix = os.path.splitext(parts[-1])
            found = self._by_stem.get(stem if suffix in IMAGE_SUFFIXES else parts[-1], [])
            parts[-1] = ""  # another extension: the names differ
        if not found:
            return name if os.path.isabs(name) and os.path.isfile(name) else None
        if len(found) == 1:
            return self.path(found[0])
        ranked = sorted(((_fit(image, parts, near), image) for image in found), reverse=True)
        if ranked[0][0] == ranked[1][0]:
            raise ValueError(
                f"{self.path(near) if '.' in near else self.root}: image {name!r} may be "
                f"{min(ranked[0][1], ranked[1][1])} or {max(ranked[0][1], ranked[1][1])}; "
                "name it with its folder, or remove one of them"
            )
        return self.path(ranked[0][1])

    def json_keys(self, relative: str) -> JsonKeys:
        """Return the result of `json_keys` for a file, which is read only once."""
        if relative not in self._json_keys:
            self._json_keys[relative] = json_keys(self.path(relative))
        return self._json_keys[relative]

    def lines(self, relative: str) -> list[str]:
        """Return the lines of a text file that are not empty, stripped."""
        text = read_text(self.path(relative))
        return [line.strip() for line in text.split("\n") if line.strip()]


# Leftovers of unpacking, and the runs of `d2lite`, which contain other images and JSON files.
_NOT_DATA = ("__MACOSX", "runs")


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()


_NOT_PHOTOGRAPHS = re.compile(r"mask|label|segm|annot|thumb|(^|[^a-z])gt([^a-z]|$)")


def _fit(image: str, wanted: list[str], near: str) -> tuple:
    """Return how well an image fits, as a sort key.

    It compares the common folders at the end, those at the start, the split, whether the folder
    seems to contain photographs, and the format.
    """
    parts = [_key(part) for part in image.split("/")]
    tail = 0
    for one, other in zip(reversed(parts[:-1]), reversed(wanted[:-1]), strict=False):
        if one != other:
            break
        tail += 1
    head = 0
    for one, other in zip(parts[:-1], [_key(part) for part in near.split("/")], strict=False):
        if one != other:
            break
        head += 1
    split = split_of(near) if near else ALL
    folder, _, name = image.rpartition("/")
    return (
        tail,
        head,
        split != ALL and split_of(folder) == split,
        not _NOT_PHOTOGRAPHS.search(folder.lower()),
        -IMAGE_SUFFIXES.index(os.path.splitext(name.lower())[1]),
    )


_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:]')
_PEEK = 2**16  # bytes of a JSON file that are read to recognize it


_LEVELS = {"{": 0, "{{": 1, "{[{": 2}


def json_keys(path: str) -> JsonKeys:
    """Return the keys at the top of a JSON file, of objects in it, and of objects in lists in it.

    Only the start of the file is read, so large files take no longer.
    """
    with open(path, "rb") as file:
        start = file.read(_PEEK)
    wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = start.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    levels: JsonKeys = (set(), set(), set())
    opened: list[str] = []
    tokens = list(_JSON_TOKEN.finditer(text))
    for token, following in itertools.zip_longest(tokens, tokens[1:]):
        sign = token[0]
        if sign in "{[":
            opened.append(sign)
        elif sign in "}]" and opened:
            opened.pop()
        elif sign[0] == '"' and following is not None and following[0] == ":":
            level = _LEVELS.get("".join(opened))
            if level is not None:
                levels[level].add(sign[1:-1])  # no key that identifies a layout has an escape
    return levels
