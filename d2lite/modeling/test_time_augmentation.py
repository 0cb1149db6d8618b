"""Test-time augmentation: detect in several versions of an image and merge what was found."""

import itertools
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
from d2lite.data.transforms.transform import is_mirrored
from d2lite.modeling.meta_arch import GeneralizedRCNN
from d2lite.modeling.postprocessing import detector_postprocess
from d2lite.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from d2lite.structures import Boxes, Instances
from d2lite.utils.errors import ArgumentError

# Low enough to keep all detections of all versions for NMS; it only excludes the zeros of the other
# classes in each row.
_MERGE_SCORE_THRESH = 1e-8


class DatasetMapperTTA:
    """Mapper from an image to its versions: several sizes, each optionally mirrored too."""

    @configurable
    def __init__(self, min_sizes: Sequence[int], max_size: int, flip: bool):
        """Store the settings.

        Args:
            min_sizes: lengths of the shorter side in pixels.
            max_size: maximum length of the longer side in pixels.
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
            For each version a copy of the dict, with the version as "image", and with "transforms",
            which map the original to it.
        """
        image = dataset_dict["image"].permute(1, 2, 0).cpu().numpy()
        height, width = image.shape[:2]
        original = (dataset_dict.get("height", height), dataset_dict.get("width", width))
        before = []
        if original != (height, width):
            before.append(T.ResizeTransform(*original, height, width))
        versions = []
        flips = [[], [T.RandomFlip(prob=1.0)]] if self.flip else [[]]
        for min_size, flip in itertools.product(self.min_sizes, flips):
            augmentations = [T.ResizeShortestEdge(min_size, self.max_size), *flip]
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


class GeneralizedRCNNWithTTA(nn.Module):
    """Test-time augmentation for GeneralizedRCNN: detects in several versions of each image.

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
            cfg: sets the NMS threshold, the classes and the number of detections for merging.
            model: a GeneralizedRCNN, with or without DistributedDataParallel.
            tta_mapper: makes the versions; by default from TEST.AUG.
            batch_size: number of versions in a batch.

        Raises:
            ValueError: the model is not a GeneralizedRCNN, predicts keypoints, or needs proposals.
        """
        super().__init__()
        if isinstance(model, DistributedDataParallel):
            model = model.module
        if not isinstance(model, GeneralizedRCNN):
            raise ArgumentError(
                f"TTA works with GeneralizedRCNN only, not with {type(model).__name__}"
            )
        for key in ("KEYPOINT_ON", "LOAD_PROPOSALS"):
            if cfg.MODEL[key]:
                raise ArgumentError(
                    f"TTA does not work with MODEL.{key}: set TEST.AUG.ENABLED False"
                )
        self.cfg = cfg.clone()
        self.model = model
        self.tta_mapper = tta_mapper or DatasetMapperTTA(cfg)
        self.batch_size = batch_size

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Detect objects; input and output are those of `GeneralizedRCNN.forward`.

        If an input has "file_name" instead of "image", the file is read.
        """
        results = []
        for dataset_dict in batched_inputs:
            dataset_dict = dict(dataset_dict)
            if "image" not in dataset_dict:
                image = read_image(
                    dataset_dict["file_name"],
                    self.model.input_format,
                    max_value_16_bit=self.cfg.INPUT.MAX_VALUE_16_BIT,
                    expected=dataset_dict,
                )
                image = np.ascontiguousarray(image.transpose(2, 0, 1))
                dataset_dict["image"] = torch.from_numpy(image)
            height, width = dataset_dict["image"].shape[1:]
            size = {"height": height, "width": width}
            results.append(self._inference_one_image({**size, **dataset_dict}))
        return results

    def _inference_one_image(self, input: dict[str, Any]) -> dict[str, Instances]:
        size = (input["height"], input["width"])
        versions, transforms = self._get_augmented_inputs(input)
        # Masks are computed after the merge, since many boxes don't survive it.
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]):
            boxes, scores, classes = self._get_augmented_boxes(versions, transforms)
        merged = self._merge_detections(boxes, scores, classes, size)
        if self.cfg.MODEL.MASK_ON:
            known = self._rescale_detected_boxes(versions, merged, transforms)
            outputs = self._batch_inference(versions, known)
            merged.pred_masks = self._reduce_pred_masks(outputs, transforms)
            merged = detector_postprocess(merged, *size)
        return {"instances": merged}

    def _get_augmented_inputs(
        self, input: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], list[T.TransformList]]:
        """Make the versions of an image, and the transforms from the original to each."""
        versions = self.tta_mapper(input)
        return versions, [version.pop("transforms") for version in versions]

    @contextmanager
    def _turn_off_roi_heads(self, attrs: Sequence[str]) -> Iterator[None]:
        """Set existing attributes of the region heads to False inside the block."""
        heads = self.model.roi_heads
        before = {name: getattr(heads, name) for name in attrs if hasattr(heads, name)}
        for name in before:
            setattr(heads, name, False)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(heads, name, value)

    def _batch_inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
    ) -> list[Instances]:
        """Detect in all versions, `batch_size` at a time; see `GeneralizedRCNN.inference`."""
        outputs: list[Instances] = []
        for start in range(0, len(batched_inputs), self.batch_size):
            rows = slice(start, start + self.batch_size)
            known = None if detected_instances is None else detected_instances[rows]
            outputs += self.model.inference(batched_inputs[rows], known, do_postprocess=False)
        return outputs

    def _get_augmented_boxes(
        self, augmented_inputs: list[dict[str, Any]], tfms: list[T.TransformList]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Detect in every version.

        Returns:
            (R, 4) boxes in the original image, R scores and R classes.
        """
        found = self._batch_inference(augmented_inputs)
        boxes = [
            _transformed(x.pred_boxes.tensor, tfm.inverse())
            for x, tfm in zip(found, tfms, strict=True)
        ]
        scores = [score for x in found for score in x.scores]
        classes = [label for x in found for label in x.pred_classes]
        return torch.cat(boxes), scores, classes

    def _merge_detections(
        self,
        all_boxes: Tensor,
        all_scores: Sequence[Tensor] | Tensor,
        all_classes: Sequence[Tensor] | Tensor,
        shape_hw: tuple[int, int],
    ) -> Instances:
        """Merge the detections of all versions by NMS, in the original image of size `shape_hw`."""
        heads = self.cfg.MODEL.ROI_HEADS
        scores_by_class = all_boxes.new_zeros(len(all_boxes), heads.NUM_CLASSES + 1)
        if len(all_boxes):
            rows = torch.arange(len(all_boxes), device=all_boxes.device)
            classes, scores = (
                x if isinstance(x, Tensor) else torch.stack([torch.as_tensor(v) for v in x])
                for x in (all_classes, all_scores)
            )
            classes, scores = classes.to(rows.device), scores.to(rows.device)
            scores_by_class[rows, classes] = scores.to(scores_by_class.dtype)
        merged, _ = fast_rcnn_inference_single_image(
            all_boxes,
            scores_by_class,
            shape_hw,
            _MERGE_SCORE_THRESH,
            heads.NMS_THRESH_TEST,
            self.cfg.TEST.DETECTIONS_PER_IMAGE,
        )
        return merged

    def _rescale_detected_boxes(
        self,
        augmented_inputs: list[dict[str, Any]],
        merged_instances: Instances,
        tfms: list[T.TransformList],
    ) -> list[Instances]:
        """Return the merged detections in the coordinates of each version."""
        return [
            Instances(
                tuple(version["image"].shape[1:3]),
                pred_boxes=Boxes(_transformed(merged_instances.pred_boxes.tensor, tfm)),
                pred_classes=merged_instances.pred_classes,
                scores=merged_instances.scores,
            )
            for version, tfm in zip(augmented_inputs, tfms, strict=True)
        ]

    def _reduce_pred_masks(self, outputs: list[Instances], tfms: list[T.TransformList]) -> Tensor:
        """Return (R, 1, M, M) masks averaged over the versions; mirrored ones are flipped back."""
        masks = [
            output.pred_masks.flip(dims=[3]) if is_mirrored(tfm) else output.pred_masks
            for output, tfm in zip(outputs, tfms, strict=True)
        ]
        return torch.stack(masks).mean(dim=0)


def _transformed(boxes: Tensor, transform: T.Transform) -> Tensor:
    moved = transform.apply_box(boxes.cpu().numpy())
    return torch.from_numpy(moved).to(boxes)
