"""Dataset mapper that makes the targets of Panoptic-DeepLab."""

from collections.abc import Callable
from typing import Any

from d2lite.config import CfgNode, configurable
from d2lite.data import DatasetMapper, MetadataCatalog, detection_utils as utils, transforms as T
from d2lite.data.dataset_mapper import DATASET_MAPPER_REGISTRY, to_chw_tensor
from d2lite.data.image_io import check_label_size
from d2lite.utils.segment_colors import rgb_to_id

from .target_generator import PanopticDeepLabTargetGenerator


class PanopticDeeplabDatasetMapper:
    """Mapper for training: reads and augments an image and its segments, and makes targets."""

    @configurable
    def __init__(
        self,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        panoptic_target_generator: Callable[..., dict],
    ):
        """
        Args:
            augmentations: augmentations in the order in which they are applied.
            image_format: see `detection_utils.read_image`; such as "RGB".
            panoptic_target_generator: makes a dict from (H, W) segment ids and "segments_info".
        """
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.panoptic_target_generator = panoptic_target_generator

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read the INPUT keys, and the metadata of the first training set."""
        inputs = cfg.INPUT
        augmentations: list[T.Augmentation] = [
            T.ResizeShortestEdge(
                inputs.MIN_SIZE_TRAIN, inputs.MAX_SIZE_TRAIN, inputs.MIN_SIZE_TRAIN_SAMPLING
            )
        ]
        if inputs.CROP.ENABLED:
            augmentations.append(T.RandomCrop(inputs.CROP.TYPE, inputs.CROP.SIZE))
        augmentations.append(T.RandomFlip())
        metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        return {
            "augmentations": augmentations,
            "image_format": inputs.FORMAT,
            "panoptic_target_generator": PanopticDeepLabTargetGenerator(
                ignore_label=metadata.ignore_label,
                thing_ids=list(metadata.thing_dataset_id_to_contiguous_id.values()),
                sigma=inputs.GAUSSIAN_SIGMA,
                ignore_stuff_in_offset=inputs.IGNORE_STUFF_IN_OFFSET,
                small_instance_area=inputs.SMALL_INSTANCE_AREA,
                small_instance_weight=inputs.SMALL_INSTANCE_WEIGHT,
                ignore_crowd_in_semantic=inputs.IGNORE_CROWD_IN_SEMANTIC,
            ),
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Map one dict of a panoptic dataset; it is not changed.

        Returns:
            The dict with "image", (C, H, W), and the targets, without "pan_seg_file_name".

        Raises:
            ValueError: the dict has no panoptic annotations.
        """
        missing = {"pan_seg_file_name", "segments_info"} - dataset_dict.keys()
        if missing:
            raise ValueError(
                f"{dataset_dict['file_name']}: the dataset dict has no {sorted(missing)}; "
                "Panoptic-DeepLab needs a panoptic dataset in standard form, such as "
                "coco_2017_train_panoptic"
            )
        dataset_dict = dict(dataset_dict)
        image = utils.read_image(
            dataset_dict["file_name"], format=self.image_format, expected=dataset_dict
        )
        utils.check_image_size(dataset_dict, image)
        segment_file = dataset_dict.pop("pan_seg_file_name")
        size = {"height": image.shape[0], "width": image.shape[1], "file_name": segment_file}
        segments = utils.read_image(segment_file, "RGB", expected=size)
        check_label_size(segment_file, segments.shape[:2], image.shape[:2])
        # The colors of segments are labels, and are transformed like semantic labels.
        aug_input = T.AugInput(image, sem_seg=segments)
        self.augmentations(aug_input)
        dataset_dict["image"] = to_chw_tensor(aug_input.image)
        ids = rgb_to_id(aug_input.sem_seg)
        dataset_dict.update(self.panoptic_target_generator(ids, dataset_dict["segments_info"]))
        return dataset_dict


@DATASET_MAPPER_REGISTRY.register()
def panoptic_deeplab_mapper(
    cfg: CfgNode, is_train: bool
) -> PanopticDeeplabDatasetMapper | DatasetMapper:
    """Return the mapper for training, or else the default mapper."""
    return PanopticDeeplabDatasetMapper(cfg) if is_train else DatasetMapper(cfg, is_train)
