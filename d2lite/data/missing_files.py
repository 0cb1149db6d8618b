"""Find files of a dataset that do not exist, before training needs one of them."""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence

logger = logging.getLogger(__name__)

# Keys of dataset dicts that the default mapper opens.
_FILE_KEYS = ("file_name", "sem_seg_file_name")
# With fewer files than this in a folder, checking each one is cheaper than listing the folder.
_FEW = 8


def check_files_exist(
    dataset_dicts: Iterable[dict], names: Sequence[str], *, tolerant: bool = False
) -> None:
    """Check that the image and label files of a dataset exist.

    URLs (`https://...`) are assumed to exist.

    Args:
        dataset_dicts: with "file_name", and perhaps "sem_seg_file_name".
        names: names of the datasets, for the message.
        tolerant: only warn, unless all files are missing.
    Raises:
        FileNotFoundError: files are missing; the message has their number and the first one.
    """
    dataset_dicts = list(dataset_dicts)
    for key in _FILE_KEYS:
        paths = [str(one[key]) for one in dataset_dicts if key in one]
        missing = missing_files(paths)
        if not missing:
            continue
        message = (
            f"{len(missing)} of the {len(paths)} files ({key}) of {', '.join(names)} do not exist, "
            f"the first is {missing[0]}"
        )
        if tolerant and len(missing) < len(paths):
            logger.warning("%s; they are skipped, as DATALOADER.ON_BAD_SAMPLE says", message)
            continue
        raise FileNotFoundError(
            f"{message}; correct the image folder, or the names in the annotations"
        )


def missing_files(paths: Iterable[str]) -> list[str]:
    """Return the paths of files that do not exist, in order; URLs are never missing.

    Every folder is listed once, which is a hundred times faster than checking each file, especially
    on network storage.
    """
    paths = list(dict.fromkeys(paths))
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        if "://" not in path:
            folder, name = os.path.split(path)
            by_folder[folder].append(name)
    absent: set[tuple[str, str]] = set()  # folder and name
    for folder, listed in by_folder.items():
        wanted = set(listed)
        if len(wanted) < _FEW:
            existing = {name for name in wanted if os.path.isfile(os.path.join(folder, name))}
        else:
            try:
                existing = {entry.name for entry in os.scandir(folder or ".")}
            except OSError:
                existing = set()
        absent |= {(folder, name) for name in wanted - existing}
    return [path for path in paths if os.path.split(path) in absent]
