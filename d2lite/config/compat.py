"""Configs of older versions (`VERSION`): key names of Detectron-era configs, in both directions.

Keys that d2lite itself has renamed are in `utils/renamed.py`.
"""

from typing import ClassVar

from fvcore.common.config import CfgNode

from d2lite.config.errors import ConfigVersionError
from d2lite.config.keys import has_key, pop_key, put_key, rename_key

CURRENT_VERSION = 2


def upgrade_config(cfg: CfgNode, to_version: int | None = None) -> CfgNode:
    """Return a copy of `cfg` under the key names of a newer version (the latest by default).

    Raises:
        ConfigVersionError: the version of `cfg` is newer than that.
    """
    cfg = cfg.clone()
    target = CURRENT_VERSION if to_version is None else to_version
    if target < cfg.VERSION:
        raise ConfigVersionError(
            f"the config has version {cfg.VERSION}, newer than {target}; use downgrade_config"
        )
    for version in range(cfg.VERSION, target):
        _CONVERTERS[version + 1].upgrade(cfg)
        cfg.VERSION = version + 1
    return cfg


def downgrade_config(cfg: CfgNode, to_version: int) -> CfgNode:
    """Return a copy of `cfg` under the key names of an older version, as far as it had such keys.

    Files of that version can be merged into the result. Old keys without a successor get a value of
    the right type but without meaning.

    Raises:
        ConfigVersionError: the version of `cfg` is older than that.
    """
    cfg = cfg.clone()
    if to_version > cfg.VERSION:
        raise ConfigVersionError(
            f"the config has version {cfg.VERSION}, older than {to_version}; use upgrade_config"
        )
    for version in range(cfg.VERSION, to_version, -1):
        _CONVERTERS[version].downgrade(cfg)
        cfg.VERSION = version - 1
    return cfg


def guess_version(cfg: CfgNode, filename: str) -> int:
    """Return the VERSION of a file's content, or 1 if it has a key that only version 1 has."""
    if "VERSION" in cfg:
        return cfg.VERSION
    old = any(has_key(cfg, key) for key in ("MODEL.WEIGHT", "TEST.AUG_ON"))
    return 1 if old else CURRENT_VERSION


class _RenameConverter:
    """Converter between consecutive versions: pairs of the old and the new key."""

    RENAME: ClassVar[list[tuple[str, str]]] = []

    @classmethod
    def upgrade(cls, cfg: CfgNode) -> None:
        """Move the values of `cfg` from the old keys to the new ones."""
        for old, new in cls.RENAME:
            rename_key(cfg, old, new)

    @classmethod
    def downgrade(cls, cfg: CfgNode) -> None:
        """Move the values of `cfg` back from the new keys to the old ones."""
        for old, new in reversed(cls.RENAME):
            rename_key(cfg, new, old)


class ConverterV1(_RenameConverter):
    """Converter of versions 0 and 1: the RPN head moved into the RPN's group."""

    RENAME = [("MODEL.RPN_HEAD.NAME", "MODEL.RPN.HEAD_NAME")]


class ConverterV2(_RenameConverter):
    """Converter of versions 1 and 2: simpler names, one group for anchors of RPN and RetinaNet."""

    RENAME = [
        ("MODEL.WEIGHT", "MODEL.WEIGHTS"),
        ("MODEL.PANOPTIC_FPN.SEMANTIC_LOSS_SCALE", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT"),
        ("MODEL.PANOPTIC_FPN.RPN_LOSS_SCALE", "MODEL.RPN.LOSS_WEIGHT"),
        ("MODEL.PANOPTIC_FPN.INSTANCE_LOSS_SCALE", "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT"),
        ("MODEL.PANOPTIC_FPN.COMBINE_ON", "MODEL.PANOPTIC_FPN.COMBINE.ENABLED"),
        (
            "MODEL.PANOPTIC_FPN.COMBINE_OVERLAP_THRESHOLD",
            "MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH",
        ),
        (
            "MODEL.PANOPTIC_FPN.COMBINE_STUFF_AREA_LIMIT",
            "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT",
        ),
        (
            "MODEL.PANOPTIC_FPN.COMBINE_INSTANCES_CONFIDENCE_THRESHOLD",
            "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH",
        ),
        ("MODEL.ROI_HEADS.SCORE_THRESH", "MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
        ("MODEL.ROI_HEADS.NMS", "MODEL.ROI_HEADS.NMS_THRESH_TEST"),
        ("MODEL.RETINANET.INFERENCE_SCORE_THRESHOLD", "MODEL.RETINANET.SCORE_THRESH_TEST"),
        ("MODEL.RETINANET.INFERENCE_TOPK_CANDIDATES", "MODEL.RETINANET.TOPK_CANDIDATES_TEST"),
        ("MODEL.RETINANET.INFERENCE_NMS_THRESHOLD", "MODEL.RETINANET.NMS_THRESH_TEST"),
        ("TEST.DETECTIONS_PER_IMG", "TEST.DETECTIONS_PER_IMAGE"),
        ("TEST.AUG_ON", "TEST.AUG.ENABLED"),
        ("TEST.AUG_MIN_SIZES", "TEST.AUG.MIN_SIZES"),
        ("TEST.AUG_MAX_SIZE", "TEST.AUG.MAX_SIZE"),
        ("TEST.AUG_FLIP", "TEST.AUG.FLIP"),
    ]

    _ANCHOR_KEYS = ("ANCHOR_ASPECT_RATIOS", "ANCHOR_SIZES")
    # Keys of RetinaNet's anchors; only the first size and the ratios have a successor.
    _RETINANET_ONLY = {"ANCHOR_STRIDES": []}

    @classmethod
    def upgrade(cls, cfg: CfgNode) -> None:
        """Rename the keys, and keep the anchor settings of the model in use."""
        super().upgrade(cfg)
        meta_architecture = cfg.MODEL.get("META_ARCHITECTURE", "")
        source = "RETINANET" if meta_architecture == "RetinaNet" else "RPN"
        for key in cls._ANCHOR_KEYS:
            new = f"MODEL.ANCHOR_GENERATOR.{key.removeprefix('ANCHOR_')}"
            rename_key(cfg, f"MODEL.{source}.{key}", new)
        for group in ("RPN", "RETINANET"):
            for key in (*cls._ANCHOR_KEYS, *cls._RETINANET_ONLY):
                if has_key(cfg, f"MODEL.{group}.{key}"):
                    pop_key(cfg, f"MODEL.{group}.{key}")

    @classmethod
    def downgrade(cls, cfg: CfgNode) -> None:
        """Rename the keys back, and copy the anchor settings to both RPN and RetinaNet."""
        super().downgrade(cfg)
        for key in cls._ANCHOR_KEYS:
            value = pop_key(cfg, f"MODEL.ANCHOR_GENERATOR.{key.removeprefix('ANCHOR_')}")
            put_key(cfg, f"MODEL.RPN.{key}", value)
            put_key(cfg, f"MODEL.RETINANET.{key}", value)
        for key, value in cls._RETINANET_ONLY.items():
            put_key(cfg, f"MODEL.RETINANET.{key}", list(value))


_CONVERTERS = {1: ConverterV1, 2: ConverterV2}
