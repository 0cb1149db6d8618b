"""Sources to detect on: images, videos and cameras named on the command line."""

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from d2lite.data.image_schemes import find_image_reader
from d2lite.data.layouts.files import IMAGE_SUFFIXES
from d2lite.utils.file_io import PathManager, read_text
from d2lite.utils.registry import did_you_mean
from d2lite.utils.video_files import STREAMS, VIDEO_SUFFIXES

LIST_SUFFIXES = (".txt", ".lst")


@dataclass(frozen=True)
class Source:
    """An image, video or camera to detect on."""

    kind: str  # "image", "video" or "camera"
    path: str  # path, URL, or number of the camera

    @property
    def name_path(self) -> str:
        """The path from which result files get their names."""
        if self.kind == "camera":
            return f"camera{self.path}"
        return unquote(self.path.partition("?")[0]) if "://" in self.path else self.path


def find_sources(words: Iterable[str]) -> list[Source]:
    """Find the images, videos and cameras that the words name, each once.

    A word is a file, a folder (with all images and videos below it), a pattern such as
    'photos/*.jpg', a text file with a path or URL per line, a URL, or the number of a camera.

    Raises:
        FileNotFoundError: a file does not exist, or a folder or list is empty.
    """
    found: dict[Source, None] = {}
    for word in words:
        found |= dict.fromkeys(_sources_of(word))
    return list(found)


def _sources_of(word: str) -> list[Source]:
    path = os.path.expanduser(word)
    if os.path.isdir(path):
        files = (file for file in sorted(Path(path).rglob("*")) if file.is_file())
        endings = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
        sources = [
            _of_path(str(file))
            for file in files
            if file.name.lower().endswith(endings)
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        if not sources:
            raise FileNotFoundError(f"{word}: there are no images or videos in this folder")
        return sources
    if os.path.isfile(path):
        return _listed(path) if path.lower().endswith(LIST_SUFFIXES) else [_of_path(path)]
    if word.isdecimal():
        return [Source("camera", word)]
    if word.startswith(STREAMS) or find_image_reader(word) is not None:
        return [Source("video" if word.startswith(STREAMS) else "image", word)]
    if "://" in word:
        if urlsplit(word).path.lower().endswith(VIDEO_SUFFIXES):
            return [Source("video", PathManager.get_local_path(word))]
        return [Source("image", word)]
    matches = [file for file in sorted(glob.glob(path, recursive=True)) if os.path.isfile(file)]
    if not matches:
        folder = os.path.dirname(path) or "."
        names = os.listdir(folder) if os.path.isdir(folder) else []
        hint = did_you_mean(os.path.basename(path), names)
        raise FileNotFoundError(f"{word}: file or folder not found.{hint}")
    return [_of_path(match) for match in matches]


def _of_path(path: str) -> Source:
    return Source("video" if path.lower().endswith(VIDEO_SUFFIXES) else "image", path)


def _listed(path: str) -> list[Source]:
    """Return the sources of a list: paths are relative to the working directory, or else to the
    list's folder."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    sources: list[Source] = []
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        beside = os.path.join(os.path.dirname(path), line)
        if "://" in line:
            sources += _sources_of(line)
        elif os.path.isfile(line) or os.path.isfile(beside):
            sources.append(_of_path(line if os.path.isfile(line) else beside))
        else:
            raise FileNotFoundError(f"{path}, line {number}: file not found: {line}")
    if not sources:
        raise FileNotFoundError(f"{path}: lists no files; expected a path or URL per line")
    return sources


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Return a unique name without extension for the results of each file.

    If several files have the same name, the later ones are prefixed with the name of their folder,
    or get a number.
    """
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        folder, base = os.path.split(os.path.abspath(path))
        stem = os.path.splitext(base)[0]
        candidates = [stem, f"{os.path.basename(folder)}_{stem}"]
        candidates += [f"{stem}_{i}" for i in range(1, len(paths))]
        # Some file systems do not distinguish upper and lower case.
        name = next(name for name in candidates if name.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names
