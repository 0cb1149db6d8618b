"""From annotations with points to the input of a model: INPUT.DATASET_MAPPER point_sup_mapper."""

import numpy as np
from fvcore.transforms.transform import TransformList

from d2lite.config import CfgNode, configurable
from d2lite.data import DatasetMapper, detection_utils as utils, transforms as T
from d2lite.data.dataset_mapper import DATASET_MAPPER_REGISTRY

from .detection_utils import annotations_to_instances, transform_instance_annotations


class PointSupDatasetMapper(DatasetMapper):
    """The default mapper without masks and keypoints, but with points."""

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        sample_points: int = 0,
    ):
        """Set what images and annotations become.

        Args:
            is_train: whether the annotations are wanted.
            augmentations: applied in order.
            image_format: of `detection_utils.read_image`, such as "BGR".
            sample_points: of each object, to be drawn whenever its image is read; 0 for all.
        """
        super().__init__(is_train, augmentations=augmentations, image_format=image_format)
        self.sample_points = sample_points

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Read INPUT.

        Raises:
            ValueError: INPUT.CROP is on; most points would be lost.
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
            # Files have the index of a pixel, whose middle is at 0.5 (Heckbert 1990).
            anno["point_coords"] = np.asarray(anno["point_coords"], dtype=np.float64) + 0.5
            annos.append(transform_instance_annotations(anno, transforms, image_shape))
        instances = annotations_to_instances(annos, image_shape, self.sample_points)
        dataset_dict["instances"] = utils.filter_empty_instances(instances)


@DATASET_MAPPER_REGISTRY.register()
def point_sup_mapper(cfg: CfgNode, is_train: bool) -> DatasetMapper:
    """PointSupDatasetMapper where INPUT.POINT_SUP is on, for training; else the default mapper."""
    if is_train and cfg.INPUT.POINT_SUP:
        return PointSupDatasetMapper(cfg, is_train)
    return DatasetMapper(cfg, is_train)
