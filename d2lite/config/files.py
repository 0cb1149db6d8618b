"""Configs of the model zoo by name, wherever this package is installed."""

import os
from pathlib import Path

from d2lite.config.errors import ConfigFileError
from d2lite.utils.registry import did_you_mean

ENDINGS = (".yaml", ".py")
# Parts of other configs, which do not describe a model by themselves.
_PARTS = ("common/", "Base-")


def configs_folder() -> Path:
    """Return the folder `configs/`, inside the installed package or at the repository's top."""
    package = Path(__file__).parents[1]
    installed = package / "model_zoo" / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def config_names() -> list[str]:
    """Return the names of all configs of the zoo, such as "COCO-Detection/fcos_R_50_FPN_1x.py"."""
    folder = configs_folder()
    paths = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in ENDINGS)
    return sorted(p for p in paths if not p.startswith(_PARTS) and "/Base-" not in p)


def find_config(name: str) -> str:
    """Return the path of a config given by its path, a URL, or its name in the zoo.

    Args:
        name: "" is returned unchanged. In a name in the zoo, the extension may be omitted (.yaml
            then takes precedence over .py), and so may the folder if the name is unique.

    Raises:
        ConfigFileError: the config was not found; the message suggests similar names.
    """
    if not name or "://" in name or os.path.isfile(name):
        return name
    folder = configs_folder()
    for candidate in (name, *(name + ending for ending in ENDINGS)):
        if (folder / candidate).is_file():
            return str(folder / candidate)
    known = config_names()
    stems = [known_name.rpartition(".")[0] for known_name in known]
    within = [k for k, stem in zip(known, stems, strict=True) if stem.endswith(f"/{name}")]
    if len({k.rpartition(".")[0] for k in within}) == 1:
        return find_config(within[0].rpartition(".")[0])
    is_path = os.path.splitext(name)[1] in ENDINGS and os.path.isdir(os.path.dirname(name))
    if is_path or os.path.exists(name):
        return name  # opening it raises an error that suggests files in its folder
    shown = name.removesuffix(".yaml").removesuffix(".py")
    hint = did_you_mean(shown, stems) or did_you_mean(
        shown.rpartition("/")[2], [stem.rpartition("/")[2] for stem in stems]
    )
    raise ConfigFileError(
        f"There is no config {name}, neither a file nor in the model zoo.{hint} `d2lite configs` "
        "lists the zoo"
    )
