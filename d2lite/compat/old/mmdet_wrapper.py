"""Wrappers of backbones and detectors of mmdet (version 2)."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2lite.layers import ShapeSpec
from d2lite.modeling.backbone import Backbone
from d2lite.modeling.meta_arch.inputs import batch_images, per_channel, required_field
from d2lite.structures import BitMasks, Boxes, Instances, PolygonMasks
from d2lite.utils.events import log_scalar


class MMDetBackbone(Backbone):
    """A backbone of mmdet, optionally with a neck."""

    def __init__(
        self,
        backbone: nn.Module | Mapping[str, Any],
        neck: nn.Module | Mapping[str, Any] | None = None,
        *,
        output_shapes: list[ShapeSpec],
        output_names: list[str] | None = None,
    ):
        """Wrap modules, or build them with mmdet.

        Args:
            backbone, neck: a module, or an mmdet config of one. Their weights are initialized
                by their own `init_weights`.
            output_shapes: of each output of the neck, or of the backbone without a neck.
            output_names: of each output; "out0", "out1", ... by default.

        Raises:
            ImportError: a config is given, but mmdet is not installed.
        """
        super().__init__()
        self.backbone = _build(backbone, "backbone")
        self.neck = _build(neck, "neck")
        self.backbone.init_weights()
        if self.neck is not None:
            # A plain Sequential has no init_weights.
            parts = self.neck if isinstance(self.neck, nn.Sequential) else [self.neck]
            for part in parts:
                part.init_weights()
        self._output_shapes = output_shapes
        self._output_names = output_names or [f"out{i}" for i in range(len(output_shapes))]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute features by name from (N, C, H, W) images.

        Raises:
            ValueError: the number of outputs differs from that of `output_shapes`.
        """
        outputs = self.backbone(x)
        if self.neck is not None:
            outputs = self.neck(outputs)
        if not isinstance(outputs, list | tuple) or len(outputs) != len(self._output_shapes):
            found = len(outputs) if isinstance(outputs, list | tuple) else type(outputs).__name__
            raise ValueError(
                f"the mmdet modules returned {found}, expected a list of "
                f"{len(self._output_shapes)} outputs: correct output_shapes"
            )
        return dict(zip(self._output_names, outputs, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return the given channels and stride of every output."""
        return dict(zip(self._output_names, self._output_shapes, strict=True))


class MMDetDetector(nn.Module):
    """A detector of mmdet, for boxes and masks, with the inputs and outputs of our models."""

    def __init__(
        self,
        detector: nn.Module | Mapping[str, Any],
        *,
        # The released detectors need 32; mmdet has no way to query it.
        size_divisibility: int = 32,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        """Wrap a detector, or build it with mmdet.

        Args:
            detector: a module, or an mmdet config of one. Its weights are initialized by its own
                `init_weights`.
            size_divisibility: images are padded to multiples of this.
            pixel_mean, pixel_std: one value per channel, in the channel order of the images.

        Raises:
            ImportError: a config is given, but mmdet is not installed.
        """
        super().__init__()
        self.detector = _build(detector, "detector")
        self.detector.init_weights()
        self.size_divisibility = size_divisibility
        self.register_buffer("pixel_mean", per_channel(pixel_mean), persistent=False)
        self.register_buffer("pixel_std", per_channel(pixel_std), persistent=False)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, detections otherwise; see `GeneralizedRCNN.forward`.

        Raises:
            ValueError: only some of the inputs have "height" and "width".
        """
        images = required_field(batched_inputs, "image")
        batch = batch_images(images, self.pixel_mean, self.pixel_std, self.size_divisibility).tensor
        with_size = {"height" in x for x in batched_inputs}
        if len(with_size) != 1:
            raise ValueError("either all inputs or none may have 'height' and 'width'")
        metas = [_meta(x, batch.shape[-2:]) for x in batched_inputs]
        if not self.training:
            results = self.detector.simple_test(batch, metas, rescale=with_size.pop())
            return [
                {"instances": _convert_mmdet_result(result, meta["ori_shape"][:2])}
                for result, meta in zip(results, metas, strict=True)
            ]
        targets = [x.to(self.device) for x in required_field(batched_inputs, "instances")]
        losses = self.detector.forward_train(
            batch,
            metas,
            [x.gt_boxes.tensor for x in targets],
            [x.gt_classes for x in targets],
            **_mmdet_masks(targets),
        )
        return _parse_losses(losses)


def _build(module: nn.Module | Mapping[str, Any] | None, kind: str) -> nn.Module | None:
    """Return the module itself, or build it from its config with mmdet."""
    if not isinstance(module, Mapping):
        return module
    try:
        from mmcv import ConfigDict
        from mmdet import models
    except ImportError as error:
        raise ImportError(
            f"building a {kind} from an mmdet config needs mmdet 2 and mmcv; install them, or "
            "pass a module"
        ) from error
    return getattr(models, f"build_{kind}")(ConfigDict(_plain(module)))


def _plain(config: Any) -> Any:
    """Return a config as plain dicts and lists, which mmdet requires."""
    if isinstance(config, Mapping):
        return {key: _plain(value) for key, value in config.items()}
    if isinstance(config, Sequence) and not isinstance(config, str | bytes):
        return [_plain(value) for value in config]
    return config


def _meta(dataset_dict: dict[str, Any], padded: Sequence[int]) -> dict[str, Any]:
    """Return mmdet's metadata of an image; shapes are (height, width, channels)."""
    channels, height, width = dataset_dict["image"].shape
    original = (dataset_dict.get("height", height), dataset_dict.get("width", width))
    scale = np.array([width / original[1], height / original[0]] * 2, dtype=np.float32)
    return {
        "img_shape": (height, width, channels),
        "ori_shape": (*original, channels),
        "pad_shape": (*padded, channels),
        "scale_factor": scale,
        "flip": False,
    }


def _mmdet_masks(targets: list[Instances]) -> dict[str, list]:
    """Return the argument `gt_masks` in mmdet's classes; empty if there are no masks."""
    if not targets[0].has("gt_masks"):
        return {}
    from mmdet.core import BitmapMasks, PolygonMasks as MMPolygonMasks

    def convert(masks: BitMasks | PolygonMasks, size: tuple[int, int]):
        if isinstance(masks, BitMasks):
            return BitmapMasks(masks.tensor.cpu().numpy(), *size)
        return MMPolygonMasks(masks.polygons, *size)

    return {"gt_masks": [convert(x.gt_masks, x.image_size) for x in targets]}


def _convert_mmdet_result(result: Any, size: tuple[int, int]) -> Instances:
    """Convert detections from mmdet's form: for each class an (N, 5) array of boxes and scores.

    Args:
        result: that list, or a pair of it and the masks: a list of (H, W) for each class, which
            some detectors return in a pair with scores.
        size: (height, width).
    """
    boxes_by_class, masks_by_class = result if isinstance(result, tuple) else (result, None)
    if isinstance(masks_by_class, tuple):
        masks_by_class = masks_by_class[0]
    rows = torch.from_numpy(np.vstack(boxes_by_class)).float()  # (N, 5)
    counts = torch.tensor([len(boxes) for boxes in boxes_by_class])
    instances = Instances(
        size,
        pred_boxes=Boxes(rows[:, :4]),
        scores=rows[:, 4],
        pred_classes=torch.arange(len(counts)).repeat_interleave(counts),
    )
    if masks_by_class is not None and len(rows) > 0:
        masks = itertools.chain.from_iterable(masks_by_class)
        instances.pred_masks = torch.stack([torch.as_tensor(mask) for mask in masks])
    return instances


def _parse_losses(losses: Mapping[str, Tensor | list[Tensor]]) -> dict[str, Tensor]:
    """Return the entries with "loss" in their names, averaged and summed, and log the others."""
    parsed = {}
    for name, value in losses.items():
        values = [value] if isinstance(value, Tensor) else value
        if not isinstance(values, list | tuple):
            raise ValueError(
                f"mmdet loss {name!r} is a {type(value).__name__}, not a tensor or list"
            )
        total = sum(x.mean() for x in values)
        if "loss" in name:
            parsed[name] = total
        else:
            log_scalar(name, total.detach())
    return parsed
