"""Augmentations find their arguments, change inputs in place and report what they did."""

import numpy as np
import pytest

from d2lite.data import transforms as T


class _Doubling(T.Augmentation):
    def __init__(self, factor=2, verbose=False):
        super().__init__()
        self._init(locals())

    def get_transform(self, img):  # the old name of the argument
        h, w = img.shape[:2]
        return T.ResizeTransform(h, w, h * self.factor, w * self.factor)


class _CropToFirstBox(T.Augmentation):
    def get_transform(self, image, boxes):
        x0, y0, x1, y1 = boxes[0].astype(int).tolist()
        return T.CropTransform(x0, y0, x1 - x0, y1 - y0)


def _input(**extra) -> T.AugInput:
    return T.AugInput(np.zeros((10, 20, 3), dtype=np.uint8), **extra)


def test_each_augmentation_sees_what_the_one_before_made():
    boxes = np.array([[2.0, 1.0, 8.0, 5.0]])
    sem_seg = np.ones((10, 20), dtype=np.uint8)
    aug_input = _input(boxes=boxes, sem_seg=sem_seg)
    done = aug_input.apply_augmentations([_Doubling(), _CropToFirstBox(), T.HFlipTransform(12)])
    assert aug_input.image.shape == (8, 12, 3)
    assert aug_input.sem_seg.shape == (8, 12)
    np.testing.assert_allclose(aug_input.boxes, [[0, 0, 12, 8]])
    assert [type(one).__name__ for one in done.transforms] == [
        "ResizeTransform",
        "CropTransform",
        "HFlipTransform",
    ]


def test_apply_augmentations_returns_an_array_for_an_array():
    image, done = T.apply_augmentations([_Doubling()], np.zeros((10, 20, 3), dtype=np.uint8))
    assert image.shape == (20, 40, 3) and len(done) == 1
    aug_input, _ = T.apply_transform_gens([_Doubling()], _input())
    assert aug_input.image.shape == (20, 40, 3)


def test_missing_input_is_named():
    class NeedsDepth(T.Augmentation):
        def get_transform(self, image, depth):
            return T.NoOpTransform()

    with pytest.raises(AttributeError, match="'depth'"):
        NeedsDepth()(_input())


def test_star_arguments_need_input_args():
    class Anything(T.Augmentation):
        def get_transform(self, image, *rest):
            return T.NoOpTransform()

    with pytest.raises(TypeError, match="input_args"):
        Anything()(_input())


def test_subclasses_of_augmentation_may_name_their_inputs():
    class OnSegmentation(T.Augmentation):
        input_args = ("sem_seg",)

        def get_transform(self, labels):
            return T.CropTransform(0, 0, int(labels.max()), 1)

    aug_input = _input(sem_seg=np.full((10, 20), 7))
    OnSegmentation()(aug_input)
    assert aug_input.image.shape == (1, 7, 3)


def test_repr_shows_what_differs_from_the_defaults():
    assert repr(_Doubling(3)) == "_Doubling(factor=3)"
    assert repr(T.RandomFlip()) == "RandomFlip()"
    listed = T.AugmentationList([T.RandomFlip(0.25), T.NoOpTransform()])
    assert repr(listed) == "AugmentationList[RandomFlip(prob=0.25), NoOpTransform()]"


@pytest.mark.parametrize("image", [np.zeros((2, 2), dtype=np.int64), np.zeros(3, dtype=np.uint8)])
def test_images_of_other_types_are_refused(image):
    with pytest.raises(AssertionError, match="image"):
        T.AugInput(image)


def test_only_augmentations_and_transforms_are_taken():
    with pytest.raises(TypeError, match="Augmentation or a Transform"):
        T.AugmentationList([3])
