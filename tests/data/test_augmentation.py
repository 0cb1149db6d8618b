"""Which augmentations a config asks for, and what they are shown."""

import cv2
import numpy as np
import pytest
from fvcore.transforms.transform import CropTransform

from d2lite.config import get_cfg
from d2lite.data import DatasetMapper, transforms as T
from d2lite.data.augmentation import AUGMENTATION_REGISTRY
from d2lite.structures import BoxMode


class CropToFirstBox(T.Augmentation):
    """Looks at the boxes."""

    def get_transform(self, image, boxes):
        x0, y0, x1, y1 = boxes[0].astype(int)
        return CropTransform(x0, y0, x1 - x0, y1 - y0, image.shape[1], image.shape[0])


@pytest.fixture
def crop_around_objects():
    def crop_around_objects(cfg, is_train):
        return [CropToFirstBox()] if is_train else [T.Resize((8, 8))]

    AUGMENTATION_REGISTRY.register(crop_around_objects)
    yield
    AUGMENTATION_REGISTRY._obj_map.pop("crop_around_objects")


@pytest.fixture
def sample(tmp_path):
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.zeros((40, 60, 3), np.uint8))
    boxes = [[10, 5, 20, 10], [0, 0, 4, 4]]  # x, y, width, height
    annos = [{"bbox": x, "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0} for x in boxes]
    return {"file_name": str(image), "height": 40, "width": 60, "annotations": annos}


def test_a_registered_function_lists_the_augmentations_and_these_see_the_boxes(
    crop_around_objects, sample
):
    cfg = get_cfg()
    cfg.INPUT.AUGMENTATION = "crop_around_objects"
    mapped = DatasetMapper(cfg, is_train=True)(sample)
    assert mapped["image"].shape == (3, 10, 20)
    # The second box lies outside the crop.
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[0, 0, 20, 10]]
    assert DatasetMapper(cfg, is_train=False)(sample)["image"].shape == (3, 8, 8)


def test_an_unknown_name_is_an_error_with_its_key_and_the_nearest_name():
    cfg = get_cfg()
    cfg.INPUT.AUGMENTATION = "resize_and_flap"
    with pytest.raises(KeyError, match=r"INPUT\.AUGMENTATION.*'resize_and_flip'"):
        DatasetMapper(cfg, is_train=True)
