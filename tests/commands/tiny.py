"""The tiny settings as a config file."""

from pathlib import Path

from d2lite.config import get_cfg
from tests.engine.tiny import overrides


def write_config(folder: Path) -> str:
    """Write a config of four iterations into a folder, and return its file name."""
    cfg = get_cfg()
    tiny = {"SOLVER__MAX_ITER": 4, "SOLVER__STEPS": (3,), "SOLVER__CHECKPOINT_PERIOD": 2}
    cfg.merge_from_list(overrides(**tiny))
    (folder / "tiny.yaml").write_text(cfg.dump(), encoding="utf-8")
    return "tiny.yaml"
