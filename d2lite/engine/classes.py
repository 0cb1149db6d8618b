"""Compare class counts in a config with the datasets before anything is built."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from d2lite.checkpoint import metadata_of
from d2lite.config import CfgNode
from d2lite.config.keys import get_key, put_key
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.modeling import META_ARCH_REGISTRY

logger = logging.getLogger(__name__)


def check_class_counts(
    cfg: CfgNode,
    dataset_names: Sequence[str] | None = None,
    *,
    only_open: bool = False,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Replace class counts of -1 by the number in the data, and compare other counts with the data.

    The model's `class_count_keys` maps config keys to the metadata entry that they count
    ("thing_classes" or "stuff_classes"). Datasets without class names are not compared.

    Args:
        cfg: counts of -1 are replaced in place, even if it is frozen.
        dataset_names: names or URIs; by default those of DATASETS.TRAIN, else of DATASETS.TEST.
        only_open: only replace counts of -1. If there are none, the datasets need not exist.
        about: `about_weights` of the checkpoint to be evaluated. If it has counts, they are
            compared with instead of the data.

    Raises:
        ValueError: the model has fewer classes than the data, or a different number than its
            checkpoint; or a count is -1 and no dataset has class names.
    """
    names = dataset_names or cfg.DATASETS.TRAIN or cfg.DATASETS.TEST
    its_cfg = (about or {}).get("config", {})
    is_same_model = get_key(its_cfg, "MODEL.META_ARCHITECTURE", None) == cfg.MODEL.META_ARCHITECTURE
    for key, kind in class_count_keys(cfg).items():
        wanted = get_key(cfg, key)
        trained = get_key(its_cfg, key, None) if is_same_model else None
        if trained is not None:
            if wanted not in (-1, trained):
                its_classes = (about or {}).get("metadata", {}).get(kind, ())
                raise ValueError(
                    f"{key} is {wanted}, but the checkpoint {cfg.MODEL.WEIGHTS} was trained with "
                    f"{trained}{f' ({_shorten(its_classes)})' if its_classes else ''}; set {key} "
                    f"to {trained}, or leave it out"
                )
            _set(cfg, key, trained)
            continue
        if only_open and wanted != -1:
            continue
        dataset, classes = _classes(names, kind)
        if wanted == -1:
            if not classes:
                why = (
                    f"DATASETS.TRAIN {tuple(names)} names no {kind}"
                    if names
                    else "DATASETS.TRAIN and DATASETS.TEST are empty; name a dataset"
                )
                raise ValueError(
                    f"{key} is -1, which means as many classes as the dataset has, but {why}; "
                    f"set {key}"
                )
            _set(cfg, key, len(classes))
            logger.info("%s = %d, as %s has", key, len(classes), dataset)
        elif classes and wanted < len(classes):
            raise ValueError(
                f"{key} is {wanted}, but {dataset} has {len(classes)} {kind} "
                f"({_shorten(classes)}); set {key} to {len(classes)}, or to -1 for as many as "
                "the dataset has"
            )
        elif classes and wanted > len(classes):
            logger.warning(
                "%s is %d, more than the %d %s of %s (%s): the other classes are never trained",
                key,
                wanted,
                len(classes),
                kind,
                dataset,
                _shorten(classes),
            )


def check_model_classes(model: nn.Module) -> None:
    """Compare the classes of a model built without a yaml config with those of its training data.

    Raises:
        ValueError: the model has fewer classes; if it has more, a warning is logged.
    """
    classes = trained_classes(model).get("thing_classes")
    count = model._num_label_classes() if hasattr(model, "_num_label_classes") else None
    if not classes or count is None:
        return
    message = (
        f"the model has {count} classes, its training data {len(classes)} ({_shorten(classes)})"
    )
    if count < len(classes):
        raise ValueError(f"{message}; set its num_classes to {len(classes)}")
    if count > len(classes):
        logger.warning("%s: the other classes are never trained", message)


def class_count_keys(cfg: CfgNode) -> dict[str, str]:
    """Return the config keys with class counts of this model, and the metadata entries they
    count."""
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    return dict(getattr(model, "class_count_keys", {}))


def dataset_classes(names: Sequence[str]) -> dict[str, list[str]]:
    """Return "thing_classes" and "stuff_classes", each of the first dataset that has them."""
    found: dict[str, list[str]] = {}
    for name in names:
        for kind in ("thing_classes", "stuff_classes"):
            classes = MetadataCatalog.get(name).get(kind)
            if classes and kind not in found:
                found[kind] = list(classes)
    return found


def trained_classes(model: nn.Module, cfg: CfgNode | None = None) -> dict[str, list[str]]:
    """Return the class names of a model from its checkpoint or its training sets.

    Args:
        model: may be wrapped in DistributedDataParallel or test-time augmentation.
        cfg: names the training sets if the model has no record of them.
    Returns:
        Names by "thing_classes" and "stuff_classes", as far as known.
    """
    while not hasattr(model, "built_from"):
        inner = getattr(model, "module", None) or getattr(model, "model", None)
        if not isinstance(inner, nn.Module):
            return dataset_classes(cfg.DATASETS.TRAIN) if cfg is not None else {}
        model = inner
    metadata = metadata_of(model)
    return {k: list(metadata[k]) for k in ("thing_classes", "stuff_classes") if metadata.get(k)}


def _classes(names: Sequence[str], kind: str) -> tuple[str, list[str]]:
    """Return the first dataset that names classes of this kind, and the classes."""
    for dataset in names:
        if not MetadataCatalog.get(dataset).get(kind):
            # Some readers know the classes only after loading the annotations.
            DatasetCatalog.get(dataset)
        if classes := MetadataCatalog.get(dataset).get(kind):
            return dataset, classes
    return "", []


def _set(cfg: CfgNode, key: str, value: int) -> None:
    frozen = cfg.is_frozen()
    cfg.defrost()
    put_key(cfg, key, value)
    if frozen:
        cfg.freeze()


def _shorten(classes: Sequence[str], limit: int = 6) -> str:
    shown = ", ".join(map(str, classes[:limit]))
    return shown if len(classes) <= limit else f"{shown}, ..."
