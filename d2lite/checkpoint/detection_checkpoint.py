"""The checkpointer that also reads detectron2's, Caffe2's and torchvision's weights."""

import os
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from torch import nn

from d2lite.checkpoint.c2_model_loading import align_and_update_state_dicts
from d2lite.checkpoint.checkpointer import Checkpointer, require_weights, to_tensors
from d2lite.checkpoint.reading import CheckpointFileError, read_checkpoint_file
from d2lite.checkpoint.report import IncompatibleKeys
from d2lite.checkpoint.torchvision_loading import (
    convert_torchvision_names,
    is_torchvision_resnet,
)
from d2lite.utils import comm
from d2lite.utils.errors import file_errors

# Constants that some versions of detectron2 stored in checkpoints, and the step counter of
# BatchNorm, which frozen norms lack.
_UNIMPORTANT = re.compile(
    r"(^|\.)(pixel_mean|pixel_std|num_batches_tracked)$|anchor_generator\.cell_anchors"
)


class DetectionCheckpointer(Checkpointer):
    """Checkpointer for all weights that a detector can start from.

    It reads d2lite's and detectron2's `.pth`, `.pkl` of detectron2, Detectron, Caffe2 and MSRA,
    `.pyth` of pycls, and state dicts of torchvision's ResNets; from a path, `https://`,
    `detectron2://`, `catalog://` or `torchvision://`.

    Names that differ from the model's are matched by their longest common suffix if the file or the
    path requests it: `weights.pth?matching_heuristics=True`. See `c2_model_loading.py`.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ):
        """See Checkpointer; by default, only the main process saves."""
        if save_to_disk is None:
            save_to_disk = comm.is_main_process()
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self._match_by_ending = False

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """See Checkpointer. `?matching_heuristics=True` after the path matches names by suffix."""
        path, self._match_by_ending = split_matching(path or "")
        return super().load(path, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        data = read_checkpoint_file(filename)
        if isinstance(data, dict) and "model" not in data:
            with file_errors(CheckpointFileError, filename, "not a checkpoint of a model"):
                data = _from_other_layouts(data)
        if not isinstance(data, dict):
            raise CheckpointFileError(
                f"{filename} contains a {type(data).__name__}; expected a dict with the weights "
                "under 'model', or of the weights themselves"
            )
        require_weights(filename, data["model"])
        if self._match_by_ending:
            data["matching_heuristics"] = True
        return data

    def _names_of_interest(self) -> list[str]:
        return [name for name in super()._names_of_interest() if not _UNIMPORTANT.search(name)]

    def _load_model(self, checkpoint: dict[str, Any]) -> IncompatibleKeys:
        own_state = self.model.state_dict()
        if is_torchvision_resnet(checkpoint["model"], own_state):
            checkpoint["model"] = convert_torchvision_names(checkpoint["model"])
            checkpoint["matching_heuristics"] = True
            self.logger.warning(
                "These are weights of a torchvision ResNet. They expect INPUT.FORMAT 'RGB', "
                "MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], MODEL.PIXEL_STD "
                "[58.395, 57.12, 57.375] and MODEL.RESNETS.STRIDE_IN_1X1 False"
            )
        if checkpoint.pop("matching_heuristics", False):
            checkpoint["model"] = align_and_update_state_dicts(
                own_state,
                to_tensors(checkpoint["model"]),
                c2_conversion=checkpoint.get("__author__") == "Caffe2",
            )
        found = super()._load_model(checkpoint)
        return IncompatibleKeys(
            [name for name in found.missing_keys if not _UNIMPORTANT.search(name)],
            [name for name in found.unexpected_keys if not _UNIMPORTANT.search(name)],
            found.incorrect_shapes,
        )


def split_matching(path: str) -> tuple[str, bool]:
    """Remove `matching_heuristics` from a path or URL; also return whether it was true."""
    if "matching_heuristics" not in path or os.path.exists(path):
        return path, False
    parts = urlsplit(path)
    query = dict(parse_qsl(parts.query))
    wanted = query.pop("matching_heuristics", "False")
    return urlunsplit(parts._replace(query=urlencode(query))), wanted == "True"


def _from_other_layouts(data: dict[str, Any]) -> dict[str, Any]:
    """Put the weights of other programs under "model", and choose how to match their names."""
    if "model_state" in data:  # pycls
        return {"model": data["model_state"], "__author__": "pycls", "matching_heuristics": True}
    # Caffe2's names, `res2_0_branch2a_w`, have no dots; PyTorch's have.
    if "blobs" in data or (data and not any("." in str(name) for name in data)):
        blobs = data.get("blobs", data)
        weights = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
        return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    return {"model": data}
