"""Test-time augmentation: detect in several versions of an image and merge what was found."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from d2lite.config import CfgNode, configurable
from d2lite.data import transforms as T
from d2lite.data.detection_utils import read_image
from d2lite.modeling.meta_arch import GeneralizedRCNN
from d2lite.modeling.postprocessing import detector_postprocess
from d2lite.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from d2lite.structures import Boxes, Instances

__all__ = ["DatasetMapperTTA", "GeneralizedRCNNWithTTA"]

# Detections of all versions compete in NMS, so even a poor one may count; only zeros, the other
# classes of each row, are left out.
_MERGE_SCORE_THRESH = 1e-8


class DatasetMapperTTA:
    """Makes the versions of an image: several sizes, each of them also mirrored."""

    @configurable
    def __init__(self, min_sizes: Sequence[int], max_size: int, flip: bool):
        """Store the settings.

        Args:
            min_sizes: lengths of the shorter side.
            max_size: limit of the longer side.
            flip: whether each size is mirrored too.
        """
        self.min_sizes = min_sizes
        self.max_size = max_size
        self.flip = flip

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read TEST.AUG."""
        aug = cfg.TEST.AUG
        return {"min_sizes": aug.MIN_SIZES, "max_size": aug.MAX_SIZE, "flip": aug.FLIP}

    def __call__(self, dataset_dict: dict[str, Any]) -> list[dict[str, Any]]:
        """Make the versions.

        Args:
            dataset_dict: with "image", a (C, H, W) tensor, and maybe "height" and "width", the
                size of the original.

        Returns:
            For each version the dict with its own "image", and "transforms", which maps the
            original to the version.
        """
        image = dataset_dict["image"].permute(1, 2, 0).cpu().numpy()
        height, width = image.shape[:2]
        original = (dataset_dict.get("height", height), dataset_dict.get("width", width))
        before = []
        if original != (height, width):
            before.append(T.ResizeTransform(*original, height, width))
        versions = []
        for augmentations in self._augmentations():
            new_image, transforms = T.apply_augmentations(augmentations, np.copy(image))
            new_image = np.ascontiguousarray(new_image.transpose(2, 0, 1))
            versions.append(
                {
                    **dataset_dict,
                    "image": torch.from_numpy(new_image),
                    "transforms": T.TransformList([*before, *transforms.transforms]),
                }
            )
        return versions

    def _augmentations(self) -> Iterator[list[T.Augmentation]]:
        for min_size in self.min_sizes:
            resize = T.ResizeShortestEdge(min_size, self.max_size)
            yield [resize]
            if self.flip:
                yield [resize, T.RandomFlip(prob=1.0)]


class GeneralizedRCNNWithTTA(nn.Module):
    """A GeneralizedRCNN that sees each image in several versions; for inference only.

    Boxes of all versions are merged by NMS. Masks are then predicted for the merged boxes in
    every version, and averaged.
    """

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        tta_mapper: DatasetMapperTTA | None = None,
        batch_size: int = 3,
    ):
        """Wrap a model.

        Args:
            cfg: settings of merging: NMS threshold, number of classes and of detections.
            model: a GeneralizedRCNN, maybe in DistributedDataParallel.
            tta_mapper: makes the versions; by default as TEST.AUG says.
            batch_size: versions of an image that go through the model at a time.

        Raises:
            ValueError: the model is another one, or predicts keypoints, or needs proposals.
        """
        super().__init__()
        if isinstance(model, DistributedDataParallel):
            model = model.module
        if not isinstance(model, GeneralizedRCNN):
            raise ValueError(
                f"TTA works with GeneralizedRCNN only, not with {type(model).__name__}"
            )
        for key in ("KEYPOINT_ON", "LOAD_PROPOSALS"):
            if cfg.MODEL[key]:
                raise ValueError(f"TTA does not work with MODEL.{key}: set TEST.AUG.ENABLED False")
        self.cfg = cfg.clone()
        self.model = model
        self.tta_mapper = tta_mapper or DatasetMapperTTA(cfg)
        self.batch_size = batch_size

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Detect objects; input and output are those of `GeneralizedRCNN.forward`.

        An input may have "file_name" instead of "image"; the file is read then.
        """
        return [self._inference_one_image(self._with_image(x)) for x in batched_inputs]

    def _with_image(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """The input with "image", "height" and "width"."""
        dataset_dict = dict(dataset_dict)
        if "image" not in dataset_dict:
            image = read_image(dataset_dict["file_name"], self.model.input_format)
            dataset_dict["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        height, width = dataset_dict["image"].shape[1:]
        return {"height": height, "width": width, **dataset_dict}

    def _inference_one_image(self, dataset_dict: dict[str, Any]) -> dict[str, Instances]:
        size = (dataset_dict["height"], dataset_dict["width"])
        versions = self.tta_mapper(dataset_dict)
        transforms = [version.pop("transforms") for version in versions]
        with self._without_masks():
            found = self._batch_inference(versions)
        merged = self._merge_detections(found, transforms, size)
        if self.cfg.MODEL.MASK_ON:
            known = [
                _moved(merged, transform, version["image"].shape[1:])
                for version, transform in zip(versions, transforms, strict=True)
            ]
            outputs = self._batch_inference(versions, known)
            merged.pred_masks = _mean_masks(outputs, transforms)
            merged = detector_postprocess(merged, *size)
        return {"instances": merged}

    @contextmanager
    def _without_masks(self) -> Iterator[None]:
        """Masks of boxes that may not survive the merge need not be computed."""
        heads = self.model.roi_heads
        before = getattr(heads, "mask_on", False)
        heads.mask_on = False
        try:
            yield
        finally:
            heads.mask_on = before

    def _batch_inference(
        self, inputs: list[dict[str, Any]], known: list[Instances] | None = None
    ) -> list[Instances]:
        outputs: list[Instances] = []
        for start in range(0, len(inputs), self.batch_size):
            rows = slice(start, start + self.batch_size)
            outputs += self.model.inference(
                inputs[rows], None if known is None else known[rows], do_postprocess=False
            )
        return outputs

    def _merge_detections(
        self,
        found: list[Instances],
        transforms: list[T.TransformList],
        size: tuple[int, int],
    ) -> Instances:
        """NMS over the detections of all versions, in the original image of `size`."""
        boxes = torch.cat(
            [
                _transformed(x.pred_boxes.tensor, transform.inverse())
                for x, transform in zip(found, transforms, strict=True)
            ]
        )
        scores = torch.cat([x.scores for x in found])
        classes = torch.cat([x.pred_classes for x in found])
        heads = self.cfg.MODEL.ROI_HEADS
        scores_by_class = scores.new_zeros(len(boxes), heads.NUM_CLASSES + 1)
        scores_by_class[torch.arange(len(boxes), device=boxes.device), classes] = scores
        merged, _ = fast_rcnn_inference_single_image(
            boxes,
            scores_by_class,
            size,
            _MERGE_SCORE_THRESH,
            heads.NMS_THRESH_TEST,
            self.cfg.TEST.DETECTIONS_PER_IMAGE,
        )
        return merged


def _transformed(boxes: Tensor, transform: T.Transform) -> Tensor:
    moved = transform.apply_box(boxes.cpu().numpy())
    return torch.from_numpy(moved).to(boxes)


def _moved(instances: Instances, transform: T.Transform, size: Sequence[int]) -> Instances:
    """The same objects in a version of the image, of `size` (height, width)."""
    return Instances(
        tuple(size),
        pred_boxes=Boxes(_transformed(instances.pred_boxes.tensor, transform)),
        pred_classes=instances.pred_classes,
        scores=instances.scores,
    )


def _mean_masks(outputs: list[Instances], transforms: list[T.TransformList]) -> Tensor:
    """(N, 1, M, M) masks, averaged over the versions; those of mirrored ones turned back."""
    masks = [
        output.pred_masks.flip(dims=[3]) if _is_mirrored(transform) else output.pred_masks
        for output, transform in zip(outputs, transforms, strict=True)
    ]
    return torch.stack(masks).mean(dim=0)


def _is_mirrored(transforms: T.TransformList) -> bool:
    return any(isinstance(t, T.HFlipTransform) for t in transforms.transforms)
