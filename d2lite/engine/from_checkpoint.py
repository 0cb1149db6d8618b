"""Config and class names of a model from its checkpoint."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from d2lite.checkpoint import Checkpointer, find_checkpoint, read_about
from d2lite.checkpoint.detection_checkpoint import split_matching
from d2lite.checkpoint.reading import CheckpointFileError
from d2lite.config import CfgNode, get_cfg
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.data.catalog import Metadata, is_dataset_uri
from d2lite.projects import add_projects, require_known

logger = logging.getLogger(__name__)

# Averaged weights come first, since a run that has them evaluated them.
_BEST_FIRST = ("model_best_ema.pth", "model_best.pth", "model_final_ema.pth", "model_final.pth")


def about_weights(weights: str) -> dict[str, Any]:
    """Return the entry `about` of a checkpoint (`read_about`); {} if `weights` is "".

    Args:
        weights: path or URL, as in MODEL.WEIGHTS.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointFileError: the file is damaged.
    """
    return read_about(find_checkpoint(split_matching(weights)[0])) if weights else {}


def weights_of_run(path: str) -> str:
    """Return the checkpoint of a run to use for inference: the best one, or else the last one.

    Args:
        path: folder of a run; paths of files and URLs are returned unchanged.

    Raises:
        FileNotFoundError: the folder has no checkpoint.
    """
    if not os.path.isdir(path):
        return path
    for name in _BEST_FIRST:
        if os.path.isfile(os.path.join(path, name)):
            return os.path.join(path, name)
    checkpointer = Checkpointer(nn.Module(), path)
    if checkpointer.has_checkpoint():
        return checkpointer.get_checkpoint_file()
    raise FileNotFoundError(
        f"{path} has no checkpoint: neither {', '.join(_BEST_FIRST)} nor last_checkpoint"
    )


def weights_to_load(cfg: CfgNode, resume: bool) -> str:
    """Return the checkpoint that `resume_or_load` would load: with `resume`, the last intact one in
    OUTPUT_DIR if there is one; otherwise MODEL.WEIGHTS."""
    checkpointer = Checkpointer(nn.Module(), cfg.OUTPUT_DIR)
    if not resume or not checkpointer.has_checkpoint():
        return cfg.MODEL.WEIGHTS
    files = checkpointer.resumable_files()
    for file in files:
        try:
            read_about(file)
        except (CheckpointFileError, OSError) as error:
            logger.error("%s. Looking at the checkpoint before it", error)
        else:
            return file
    return files[0] if files else cfg.MODEL.WEIGHTS


def config_from_checkpoint(weights: str | os.PathLike, opts: Sequence[str] = ()) -> CfgNode:
    """Return the config that a checkpoint of d2lite was trained with, for inference or evaluation.

    Paths and devices of the training machine are replaced: MODEL.WEIGHTS is the checkpoint,
    MODEL.DEVICE the best device of this machine, and OUTPUT_DIR the default.

    Args:
        weights: path or URL of the checkpoint.
        opts: overrides KEY VALUE.

    Raises:
        ValueError: the checkpoint contains no config, or a lazy config.
        ImportError: it needs a package that is not one of the projects and is not imported.
    """
    weights = os.fspath(weights)
    about = about_weights(weights)
    if about.get("config_kind") != "yacs":
        found = "the lazy config" if about else "no config"
        raise ValueError(
            f"{weights} contains {found} of its model, so the config must be given: "
            "--config-file FILE"
        )
    cfg = get_cfg()
    if "PROJECTS" in opts:
        add_projects(cfg, "", opts)
    elif projects := [str(name) for name in about["config"].get("PROJECTS", ())]:
        require_known(projects, weights)
        add_projects(cfg, "", ["PROJECTS", ",".join(projects)])
    # The code that registers the model may have added keys that are unknown here.
    cfg.set_new_allowed(True)
    cfg.merge_from_other_cfg(CfgNode(about["config"]))
    cfg.set_new_allowed(False)
    here = get_cfg()
    cfg.MODEL.DEVICE, cfg.OUTPUT_DIR = here.MODEL.DEVICE, here.OUTPUT_DIR
    cfg.MODEL.WEIGHTS = weights
    cfg.merge_from_list(list(opts))
    return cfg


def model_metadata(cfg: CfgNode, about: Mapping[str, Any]) -> Metadata:
    """Return the metadata of a model's classes, from its checkpoint or else from its datasets.

    If a dataset of the config is not on this machine, the checkpoint's metadata are also stored in
    the MetadataCatalog under its name, where programs look for them.

    Args:
        cfg: only DATASETS is used.
        about: result of `about_weights`.
    """
    kept = about.get("metadata") or {}
    names = [*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]
    name = names[0] if names else "the checkpoint"
    if not kept:
        return MetadataCatalog.get(name)
    for absent in names:
        if absent in DatasetCatalog or is_dataset_uri(absent):
            continue
        if len(MetadataCatalog.get(absent).as_dict()) == 1:  # only its name
            MetadataCatalog.get(absent).set(**kept)
    known = MetadataCatalog.data.get(name)
    if known is not None and all(known.get(key) == value for key, value in kept.items()):
        return known
    return Metadata(name=name).set(**kept)
