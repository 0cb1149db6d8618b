"""Extensions by name: `d2lite.projects.NAME` is the package NAME of `projects/FOLDER/NAME/`.

A project is a small package that registers its parts when it is imported, and may add its
settings with a function `add_NAME_config(cfg)`. The setting `PROJECTS` lists the projects that a
config needs, by these names; on the command line it may also contain the dotted name of any
importable package.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import yaml

from d2lite.config import CfgNode
from d2lite.utils.registry import did_you_mean

__all__ = ["add_projects", "available_projects", "import_project", "require_known"]

_INSTALLED = Path(__file__).resolve().parent
_FOLDER = _INSTALLED.parents[1] / "projects"


def available_projects() -> dict[str, Path]:
    """Return package folders by package name: the installed ones, and those of this checkout."""
    inits = [*_INSTALLED.glob("*/__init__.py"), *_FOLDER.glob("*/*/__init__.py")]
    packages = sorted(init.parent for init in inits)
    return {x.name: x for x in packages if x.name not in ("tests", "configs")}


def import_project(name: str) -> ModuleType:
    """Import a project, which registers its parts.

    Args:
        name: name of a package under projects/, or the dotted name of any package.

    Raises:
        ImportError: the package was not found; the message lists the projects.
    """
    if name in available_projects():
        return importlib.import_module(f"{__name__}.{name}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and error.name != name:
            raise  # the project exists, but something that it imports does not
        known: Iterable[str] = available_projects()
        raise ImportError(
            f"PROJECTS names {name!r}, which is neither under {_FOLDER} nor importable."
            f"{did_you_mean(name, known)} Available: {', '.join(known) or 'none'}"
        ) from None


def add_projects(cfg: CfgNode, config_file: str = "", opts: Sequence[str] = ()) -> None:
    """Import the projects that a config file or the overrides name, and add their settings.

    A project's settings must exist before values are merged into them, so this comes before
    `merge_from_file` and `merge_from_list`.

    Args:
        cfg: extended by `add_NAME_config(cfg)` of each project that has this function.
        config_file: a yaml file, with its bases, of which only `PROJECTS` is read.
        opts: overrides KEY VALUE. `PROJECTS` in them replaces that of the file, and may name any
            importable package.

    Raises:
        ImportError: the package was not found, or the file names one that is not a project.
    """
    named = CfgNode.load_yaml_with_base(config_file).get("PROJECTS") if config_file else ()
    names = [named] if isinstance(named, str) else list(named or ())
    given = dict(zip(opts[::2], opts[1::2], strict=False)).get("PROJECTS")
    if given is not None:
        names = yaml.safe_load(given) if given.lstrip().startswith("[") else given.split(",")
    else:
        require_known(names, config_file)
    for name in names:
        module = import_project(name.strip(" ()'\""))
        package = module.__name__.rpartition(".")[2]
        for spelling in (package, package.replace("_", "")):  # add_pointrend_config of point_rend
            add_config = getattr(module, f"add_{spelling}_config", None)
            if add_config is not None:
                add_config(cfg)
                break


def require_known(names: Sequence[str], source: str) -> None:
    """Raise an error unless all names are projects, or modules that the program has imported.

    A config or checkpoint that comes from elsewhere must not choose what is imported.

    Args:
        names: names in `PROJECTS`.
        source: the file that contains them, for the message.

    Raises:
        ImportError: a name is neither; the message says how to allow it.
    """
    known = available_projects()
    for name in names:
        if name not in known and name not in sys.modules:
            raise ImportError(
                f"{source}: PROJECTS names {name!r}, which is not under projects/, so it is not "
                f"imported.{did_you_mean(str(name), known)} If you trust it, name it yourself on "
                f"the command line: PROJECTS \"['{name}']\""
            )


class _ProjectFinder(MetaPathFinder):
    """Finder of `d2lite.projects.NAME` in the folder of that project."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        parent, _, name = fullname.rpartition(".")
        package = available_projects().get(name) if parent == __name__ else None
        if package is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname, package / "__init__.py", submodule_search_locations=[str(package)]
        )


sys.meta_path.append(_ProjectFinder())
