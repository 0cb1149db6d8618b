"""The default mapper from a dataset dict to the input of a model."""

import logging
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from fvcore.transforms.transform import TransformList

from d2lite.config import configurable
from d2lite.data import detection_utils as utils, transforms as T
from d2lite.data.albumentations import Albumentations
from d2lite.data.common import Others
from d2lite.data.image_io import check_label_size, read_labels
from d2lite.data.mixing import Mixing, Scene
from d2lite.structures import BoxMode
from d2lite.utils.errors import ArgumentError
from d2lite.utils.registry import Registry

logger = logging.getLogger(__name__)

DATASET_MAPPER_REGISTRY = Registry("DATASET_MAPPER", config_key="INPUT.DATASET_MAPPER")
DATASET_MAPPER_REGISTRY.__doc__ = """Callables (cfg, is_train) -> mapper.

A mapper converts a dataset dict, which it must not change, to the input of the model.
INPUT.DATASET_MAPPER names the default mapper of loaders built from a config.
"""


MIXED_LABELS = (
    "INPUT.MIX cannot mix label images (sem_seg_file_name of the dataset); set its "
    "probabilities to 0.0"
)


def build_dataset_mapper(cfg: Any, is_train: bool) -> Callable[[dict], dict | None]:
    """Build the mapper named by INPUT.DATASET_MAPPER.

    Raises:
        KeyError: no mapper of this name is registered.
    """
    return DATASET_MAPPER_REGISTRY.get(cfg.INPUT.DATASET_MAPPER)(cfg, is_train)


@DATASET_MAPPER_REGISTRY.register()
class DatasetMapper:
    """Default mapper: reads the image of a dataset dict, augments it, makes tensors and Instances.

    Subclasses can replace its steps; for other needs, give the loader any other callable.
    """

    # Class attributes, for subclasses whose constructors set only detectron2's attributes.
    use_rotated_boxes = False
    max_value_16_bit: int | None = None
    mixing: Mixing | None = None
    albumentations: Albumentations | None = None

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: np.ndarray | None = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
        use_rotated_boxes: bool = False,
        max_value_16_bit: int | None = None,
        mixing: Mixing | None = None,
        albumentations: Albumentations | None = None,
    ):
        """
        Args:
            is_train: whether to keep the annotations.
            augmentations: applied in order.
            image_format: see `detection_utils.read_image`, such as "BGR".
            use_instance_mask, use_keypoint: whether the model needs them; otherwise they are
                dropped.
            instance_mask_format: "polygon" or "bitmask".
            keypoint_hflip_indices: result of `detection_utils.create_keypoint_hflip_indices`.
            precomputed_proposal_topk: how many precomputed proposals to keep; None: not used.
            recompute_boxes: compute the boxes from the masks, so that they stay tight around
                objects that a crop cuts off.
            use_rotated_boxes: return RotatedBoxes, from boxes in any mode, without masks and
                keypoints. New in d2lite. Otherwise rotated boxes become the upright ones around
                them.
            max_value_16_bit: see `detection_utils.read_image`. New in d2lite.
            mixing: mixes training images with others, before everything else. New in d2lite.
            albumentations: applied to training images before `augmentations`. New in d2lite.
        """
        if recompute_boxes and not use_instance_mask:
            raise ArgumentError("recompute_boxes takes boxes from masks: set use_instance_mask")
        if use_rotated_boxes and (use_instance_mask or use_keypoint):
            raise ValueError(
                "rotated boxes cannot be combined with masks or keypoints: set MODEL.MASK_ON and "
                "MODEL.KEYPOINT_ON to False"
            )
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.instance_mask_format = instance_mask_format
        self.use_keypoint = use_keypoint
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self.proposal_topk = precomputed_proposal_topk
        self.recompute_boxes = recompute_boxes
        self.use_rotated_boxes = use_rotated_boxes
        self.max_value_16_bit = max_value_16_bit
        self.mixing = mixing
        self.albumentations = albumentations
        mode = "training" if is_train else "inference"
        logger.info("[DatasetMapper] Augmentations used in %s: %s", mode, augmentations)
        if before := [part for part in (mixing, albumentations) if part is not None]:
            logger.info("[DatasetMapper] Before these: %s", before)

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool = True) -> dict[str, Any]:
        augmentations = utils.build_augmentation(cfg, is_train)
        crops = cfg.INPUT.CROP.ENABLED and is_train
        if crops:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        arguments = {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "max_value_16_bit": cfg.INPUT.MAX_VALUE_16_BIT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "use_keypoint": cfg.MODEL.KEYPOINT_ON,
            # Boxes of objects cut by a crop are tighter if computed from their masks.
            "recompute_boxes": crops and cfg.MODEL.MASK_ON,
            # Five weights mean that the model regresses angles too.
            "use_rotated_boxes": len(cfg.MODEL.RPN.BBOX_REG_WEIGHTS) == 5,
        }
        if cfg.MODEL.KEYPOINT_ON:
            names = cfg.DATASETS.TRAIN
            arguments["keypoint_hflip_indices"] = utils.create_keypoint_hflip_indices(names)
        if is_train:
            # Only where they are asked for: constructors of subclasses may not take them.
            if (mixing := Mixing.from_config(cfg)) is not None:
                arguments["mixing"] = mixing
            flips = arguments.get("keypoint_hflip_indices")
            if (albumentations := Albumentations.from_config(cfg, flips)) is not None:
                arguments["albumentations"] = albumentations
        if cfg.MODEL.LOAD_PROPOSALS:
            arguments["precomputed_proposal_topk"] = (
                cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN
                if is_train
                else cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST
            )
        return arguments

    def __call__(self, dataset_dict: dict, others: Others | None = None) -> dict:
        """Map one dict of a dataset; it is not changed.

        Args:
            others: source of the images for `mixing`; None leaves the image alone.
        Returns:
            The dict with "image", (C, H, W), in the dtype of the image; in training "instances"
            instead of "annotations"; and if the dataset has them, "sem_seg", (H, W) int64, and
            "proposals".
        """
        dataset_dict = dict(dataset_dict)
        image = self._read_image(dataset_dict)
        sem_seg = None
        if "sem_seg_file_name" in dataset_dict:
            sem_seg_file = dataset_dict.pop("sem_seg_file_name")
            height, width = image.shape[:2]
            sem_seg = read_labels(sem_seg_file, expected={"height": height, "width": width})
            check_label_size(sem_seg_file, sem_seg.shape, (height, width))
        if self.is_train and not (others is None and self.albumentations is None):
            image, sem_seg = self._change_scene(dataset_dict, image, sem_seg, others)

        boxes = None  # (M, 4) XYXY, for augmentations that look at them, such as crops around them
        if self.is_train and not self.use_rotated_boxes and "annotations" in dataset_dict:
            found = [utils.get_bbox(x) for x in dataset_dict["annotations"] if "bbox" in x]
            boxes = np.array(found, dtype=np.float64).reshape(-1, 4)
        aug_input = T.AugInput(image, boxes=boxes, sem_seg=sem_seg)
        transforms = self.augmentations(aug_input)
        image, sem_seg = aug_input.image, aug_input.sem_seg
        image_shape = image.shape[:2]

        dataset_dict["image"] = to_chw_tensor(image)
        if sem_seg is not None:
            dataset_dict["sem_seg"] = torch.as_tensor(sem_seg.astype("long"))
        if self.proposal_topk is not None:
            utils.transform_proposals(
                dataset_dict, image_shape, transforms, proposal_topk=self.proposal_topk
            )
        if not self.is_train:
            dataset_dict.pop("annotations", None)
        elif "annotations" in dataset_dict:
            # Copied here, so that subclasses may change them.
            dataset_dict["annotations"] = [dict(anno) for anno in dataset_dict["annotations"]]
            self._transform_annotations(dataset_dict, transforms, image_shape)
        return dataset_dict

    def _read_image(self, dataset_dict: dict) -> np.ndarray:
        image = utils.read_image(
            dataset_dict["file_name"],
            format=self.image_format,
            max_value_16_bit=self.max_value_16_bit,
            expected=dataset_dict,
        )
        utils.check_image_size(dataset_dict, image)
        return image

    def _read_scene(self, dataset_dict: dict) -> Scene:
        return Scene.read(self._read_image(dataset_dict), dataset_dict.get("annotations", ()))

    def _change_scene(
        self,
        dataset_dict: dict,
        image: np.ndarray,
        sem_seg: np.ndarray | None,
        others: Others | None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Mix the image with others, and apply `albumentations`; its "annotations" follow."""
        scene = Scene.read(image, dataset_dict.get("annotations", ()))
        if others is not None and self.mixing is not None:
            if sem_seg is not None:
                raise TypeError(MIXED_LABELS)
            scene = self.mixing(scene, others, self._read_scene)
        unwanted = self._unwanted_keys()
        objects = [
            {key: value for key, value in annotation.items() if key not in unwanted}
            for annotation in scene.annotations
        ]
        scene = Scene(scene.image, objects)
        if self.albumentations is not None:
            scene, sem_seg = self.albumentations(scene, sem_seg)
        if "annotations" in dataset_dict:
            dataset_dict["annotations"] = scene.annotations
        return scene.image, sem_seg

    def _transform_annotations(
        self, dataset_dict: dict, transforms: TransformList, image_shape: tuple[int, int]
    ) -> None:
        """Replace "annotations" by "instances"."""
        unwanted = self._unwanted_keys()
        annos = []
        for anno in dataset_dict.pop("annotations"):
            for key in unwanted:
                anno.pop(key, None)
            if anno.get("iscrowd", 0) != 0:
                continue
            if self.use_rotated_boxes:
                annos.append(transform_rotated_annotation(anno, transforms))
            else:
                annos.append(
                    utils.transform_instance_annotations(
                        anno,
                        transforms,
                        image_shape,
                        keypoint_hflip_indices=self.keypoint_hflip_indices,
                    )
                )
        if self.use_rotated_boxes:
            instances = utils.annotations_to_instances_rotated(annos, image_shape)
        else:
            instances = utils.annotations_to_instances(
                annos, image_shape, mask_format=self.instance_mask_format
            )
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = utils.filter_empty_instances(instances)

    def _unwanted_keys(self) -> list[str]:
        wanted = {"segmentation": self.use_instance_mask, "keypoints": self.use_keypoint}
        return [key for key, is_wanted in wanted.items() if not is_wanted]


def transform_rotated_annotation(anno: dict, transforms: TransformList) -> dict:
    """Move a box of any mode along with its image, in place; it becomes XYWHA_ABS."""
    box, mode = anno["bbox"], anno["bbox_mode"]
    if mode != BoxMode.XYWHA_ABS:
        upright = BoxMode.convert(box, mode, BoxMode.XYWH_ABS)
        box = BoxMode.convert(upright, BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS)
    anno["bbox"] = transforms.apply_rotated_box(np.array([box], dtype=np.float64))[0]
    anno["bbox_mode"] = BoxMode.XYWHA_ABS
    return anno


def to_chw_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W) or (H, W, C) image -> contiguous (C, H, W) tensor with memory of its own."""
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype != np.uint8 or image.size == 0:
        return torch.from_numpy(image.transpose(2, 0, 1).copy(order="C"))
    if image.strides[1] < 0:  # a mirrored view: mirroring whole planes is faster
        return to_chw_tensor(image[:, ::-1]).flip(2)
    planes = np.empty((image.shape[2], *image.shape[:2]), dtype=np.uint8)
    # Six times as fast as copies by numpy or torch.
    cv2.split(np.ascontiguousarray(image), list(planes))
    return torch.from_numpy(planes)
