"""Install and remove the alias as a package, so that `import detectron2` finds d2lite."""

import base64
import csv
import hashlib
import importlib.metadata
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from d2lite.compat import ALIAS_FOLDER

OLD, NEW = "detectron2", "d2lite"

# A line in the package that identifies every version of the alias.
_MARK = f'ALIAS_OF = "{NEW}"'


class AliasError(Exception):
    """The alias cannot be installed or removed. The message says why and what to do."""


def site_packages() -> Path:
    """Return the folder where pip puts pure Python packages of the running interpreter."""
    return Path(sysconfig.get_path("purelib"))


def add_alias(target: Path | None = None) -> Path:
    """Install the package `detectron2`, version 0.6, whose modules are d2lite's.

    It looks like a package installed by pip, so `pip list` shows it and `pip uninstall` removes
    it. An existing alias is replaced.

    Args:
        target: folder for packages; by default site-packages of this interpreter.
    Returns:
        The folder of the package.
    Raises:
        AliasError: detectron2 itself is installed or can be imported, or the folder cannot be
            written.
    """
    target = target or site_packages()
    for where in _real_ones(target):
        raise AliasError(
            f"detectron2 itself is installed: {where}. The alias would hide it; remove it first "
            "(pip uninstall detectron2), or leave this environment as it is and start programs "
            "with python -m d2lite.compat"
        )
    package = target / OLD
    if (package.exists() or package.is_symlink()) and not _may_go(package):
        raise AliasError(f"{package} exists and is not the alias; move or remove it")
    try:
        target.mkdir(parents=True, exist_ok=True)
        _remove_files(target)
        _write_files(target)
    except OSError as error:
        raise AliasError(
            f"{target} cannot be written ({error.strerror or error}); use an environment of your "
            "own (python -m venv) or another folder of Python's path (--target FOLDER)"
        ) from error
    importlib.invalidate_caches()
    return package


def remove_alias(target: Path | None = None) -> bool:
    """Remove what `add_alias` installed, and nothing else.

    Returns:
        Whether there was an alias.
    Raises:
        AliasError: there is a detectron2 that is not the alias, or the folder cannot be written.
    """
    target = target or site_packages()
    for where in _real_ones(target, everywhere=False):
        raise AliasError(f"{where} is detectron2 itself, not the alias; nothing was removed")
    try:
        return _remove_files(target)
    except OSError as error:
        raise AliasError(f"{target} cannot be changed ({error.strerror or error})") from error


def _real_ones(target: Path, everywhere: bool = True) -> Iterator[str]:
    """Yield where a detectron2 that is not the alias is installed or can be imported from."""
    folders = [str(target), *(sys.path if everywhere else [])]
    for distribution in importlib.metadata.distributions(path=folders):
        name = distribution.metadata["Name"] or ""
        if name.lower() != OLD:
            continue
        installer = (distribution.read_text("INSTALLER") or "").strip()
        folder = Path(distribution.locate_file("")).resolve()
        if installer != NEW and folder != ALIAS_FOLDER.resolve():
            yield f"version {distribution.version} in {distribution.locate_file('')}"
    for folder in folders:
        spec = PathFinder.find_spec(OLD, [folder])
        # Without an origin it is a folder without an __init__.py.
        if spec is not None and spec.origin and not _is_marked(Path(spec.origin)):
            yield spec.origin


def _is_marked(file: Path) -> bool:
    try:
        return _MARK in file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False


def _may_go(package: Path) -> bool:
    """Return whether a `detectron2` in a folder for packages is the alias or a remnant of it."""
    if _is_marked(package / "__init__.py"):
        return True
    return package.is_dir() and not {path.name for path in package.iterdir()} - {"__pycache__"}


def _remove_files(target: Path) -> bool:
    found = False
    for metadata in target.glob(f"{OLD}-*.dist-info"):
        installer = metadata / "INSTALLER"
        if installer.is_file() and installer.read_text(encoding="utf-8").strip() == NEW:
            shutil.rmtree(metadata)
            found = True
    package = target / OLD
    if package.is_symlink() and _may_go(package):
        package.unlink()
        return True
    if package.is_dir() and _may_go(package):
        (package / "__init__.py").unlink(missing_ok=True)
        shutil.rmtree(package / "__pycache__", ignore_errors=True)
        if not any(package.iterdir()):  # users may have put their own files there
            package.rmdir()
        found = True
    return found


def _write_files(target: Path) -> None:
    files = {
        path.relative_to(ALIAS_FOLDER): path.read_bytes()
        for path in sorted(ALIAS_FOLDER.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    (metadata,) = {path.parent for path in files if path.name == "METADATA"}
    files[metadata / "INSTALLER"] = f"{NEW}\n".encode()
    files[metadata / "top_level.txt"] = f"{OLD}\n".encode()
    for path, content in files.items():
        (target / path).parent.mkdir(exist_ok=True)
        (target / path).write_bytes(content)
    record = metadata / "RECORD"
    with open(target / record, "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        for path, content in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            lines.writerow([path.as_posix(), f"sha256={digest.decode()}", len(content)])
        lines.writerow([record.as_posix(), "", ""])
