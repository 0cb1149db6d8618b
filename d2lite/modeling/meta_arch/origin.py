"""The config and class names that a model was built from, which its checkpoints store."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

import d2lite
from d2lite.config import CfgNode
from d2lite.config.lazy_text import as_plain_values
from d2lite.data.catalog import MetadataCatalog

# Metadata needed to interpret and draw the predictions of a model.
KEPT_METADATA = (
    "thing_classes",
    "thing_colors",
    "stuff_classes",
    "stuff_colors",
    "keypoint_names",
    "keypoint_flip_map",
    "keypoint_connection_rules",
    "thing_dataset_id_to_contiguous_id",
    "stuff_dataset_id_to_contiguous_id",
    "ignore_label",
)
_PLAIN = (type(None), bool, int, float, str, bytes)


class ModelOrigin:
    """The config and the class names of a model.

    `build_model` sets it as `built_from` of each model, and a Checkpointer saves its `about()` with
    the weights. `DefaultPredictor("model_final.pth")` rebuilds the model from that.

    Attributes:
        config: the settings as nested dicts of plain values.
        datasets: names of the training sets. Their metadata are read when a checkpoint is saved,
            since some are known only after loading the annotations.
    """

    def __init__(self, cfg: CfgNode | DictConfig, datasets: Sequence[str] = ()) -> None:
        """
        Args:
            cfg: a CfgNode or a DictConfig; it is copied.
            datasets: names of the training sets.
        """
        self.config = plain(cfg) if isinstance(cfg, CfgNode) else as_plain_values(cfg)[0]
        self.kind = "yacs" if isinstance(cfg, CfgNode) else "lazy"
        self.datasets = tuple(datasets)

    def about(self) -> dict[str, Any]:
        """Return the entry `about` of a checkpoint: everything except the weights that inference
        needs.

        Returns:
            "version" of d2lite, "config" and its "config_kind" ("yacs" or "lazy"), and "metadata":
            those of KEPT_METADATA that the first training set with class or keypoint names has.
        """
        return {
            "version": d2lite.__version__,
            "config_kind": self.kind,
            "config": self.config,
            "metadata": self._metadata(),
        }

    def _metadata(self) -> dict[str, Any]:
        for dataset in self.datasets:
            known = MetadataCatalog.data.get(dataset)  # doesn't resolve a URI just for this
            if known is None:
                continue
            kept = {key: plain(known.get(key)) for key in KEPT_METADATA if known.get(key)}
            if kept:
                return kept
        return {}


def plain(value: Any) -> Any:
    """Return a copy of numbers, strings and containers; other objects become their `str`."""
    if isinstance(value, Mapping):
        return {key if type(key) in _PLAIN else str(key): plain(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(map(plain, value))
    if type(value) in _PLAIN:
        return value
    return value.tolist() if hasattr(value, "tolist") else str(value)
