"""Dataset mapper for annotations with points: INPUT.DATASET_MAPPER point_sup_mapper."""

import numpy as np
from fvcore.transforms.transform import TransformList

from d2lite.config import CfgNode, configurable
from d2lite.data import DatasetMapper, detection_utils as utils, transforms as T
from d2lite.data.dataset_mapper import DATASET_MAPPER_REGISTRY

from .detection_utils import annotations_to_instances, transform_instance_annotations


class PointSupDatasetMapper(DatasetMapper):
    """Default mapper with points instead of masks and keypoints."""

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        sample_points: int = 0,
    ):
        """
        Args:
            is_train: whether to return annotations.
            augmentations: augmentations in the order in which they are applied.
            image_format: see `detection_utils.read_image`; such as "BGR".
            sample_points: number of points per object, drawn whenever the image is read; 0: all.
        """
        super().__init__(is_train, augmentations=augmentations, image_format=image_format)
        self.sample_points = sample_points

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Read INPUT.

        Raises:
            ValueError: INPUT.CROP is on, with which most points would be lost.
        """
        if cfg.INPUT.CROP.ENABLED and is_train:
            raise ValueError("INPUT.CROP cannot be used with points: set INPUT.CROP.ENABLED False")
        return {
            "is_train": is_train,
            "augmentations": utils.build_augmentation(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "sample_points": cfg.INPUT.SAMPLE_POINTS,
        }

    def _transform_annotations(
        self, dataset_dict: dict, transforms: TransformList, image_shape: tuple[int, int]
    ) -> None:
        annos = []
        for anno in dataset_dict.pop("annotations"):
            if anno.get("iscrowd", 0) != 0:
                continue
            if "point_coords" not in anno:
                raise ValueError(
                    f"{dataset_dict['file_name']}: an annotation has no 'point_coords'; train on a "
                    "dataset with points, or set INPUT.POINT_SUP False"
                )
            for unwanted in ("segmentation", "keypoints"):
                anno.pop(unwanted, None)
            # Files contain pixel indices; the center of pixel 0 is at 0.5 (Heckbert 1990).
            anno["point_coords"] = np.asarray(anno["point_coords"], dtype=np.float64) + 0.5
            annos.append(transform_instance_annotations(anno, transforms, image_shape))
        instances = annotations_to_instances(annos, image_shape, self.sample_points)
        dataset_dict["instances"] = utils.filter_empty_instances(instances)


@DATASET_MAPPER_REGISTRY.register()
def point_sup_mapper(cfg: CfgNode, is_train: bool) -> DatasetMapper:
    """Return a PointSupDatasetMapper for training with INPUT.POINT_SUP, else the default mapper."""
    if is_train and cfg.INPUT.POINT_SUP:
        return PointSupDatasetMapper(cfg, is_train)
    return DatasetMapper(cfg, is_train)
