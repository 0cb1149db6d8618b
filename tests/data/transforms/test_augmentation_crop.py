"""Crops stay inside the image and keep what they promise."""

import numpy as np
import pytest

from d2lite.data import transforms as T

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _seeded():
    np.random.seed(0)


@pytest.mark.parametrize(
    "crop_type, size, heights, widths",
    [
        ("relative", (0.5, 0.25), {20}, {15}),
        ("absolute", (30, 100), {30}, {60}),
        ("absolute_range", (38, 39), {38, 39}, {38, 39}),
        ("relative_range", (0.95, 0.95), {38, 39, 40}, {57, 58, 59, 60}),
    ],
)
def test_crop_sizes(crop_type, size, heights, widths):
    sizes = [T.RandomCrop(crop_type, size).get_crop_size((40, 60)) for _ in range(80)]
    assert {h for h, _ in sizes} == heights
    assert {w for _, w in sizes} == widths


def test_crop_reaches_every_place_and_stays_inside():
    crops = [T.RandomCrop("absolute", (39, 58)).get_transform(IMAGE) for _ in range(60)]
    assert {(crop.x0, crop.y0) for crop in crops} == {(x, y) for x in (0, 1, 2) for y in (0, 1)}
    assert crops[0].inverse().apply_image(crops[0].apply_image(IMAGE)).shape == IMAGE.shape
    with pytest.raises(ValueError, match="relative"):
        T.RandomCrop("half", (1, 1))


def test_category_constraint_keeps_crops_mixed():
    sem_seg = np.zeros((40, 60), dtype=np.uint8)
    sem_seg[:, 30:] = 1
    crop = T.RandomCrop_CategoryAreaConstraint("absolute", (40, 20), 0.9)
    counts = []
    for _ in range(20):
        labels = crop.get_transform(IMAGE, sem_seg).apply_segmentation(sem_seg)
        counts.append(np.bincount(labels.ravel(), minlength=2).max() / labels.size)
    # Two thirds of single crops would break the limit; ten tries hardly ever all do.
    assert np.mean(np.array(counts) < 0.9) > 0.8
    ignoring = T.RandomCrop_CategoryAreaConstraint("absolute", (40, 20), 0.9, ignored_category=1)
    assert ignoring.get_transform(IMAGE, sem_seg).w == 20


@pytest.mark.parametrize("shape", [(40, 60), (10, 12), (100, 12)])
def test_fixed_size_crop_gives_its_size(shape):
    image, labels = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8)
    transform = T.FixedSizeCrop((32, 32), pad_value=7, seg_pad_value=255).get_transform(image)
    assert transform.apply_image(image).shape == (32, 32, 3)
    seg = transform.apply_segmentation(labels)
    assert seg.shape == (32, 32)
    assert (seg == 255).sum() == 32 * 32 - min(32, shape[0]) * min(32, shape[1])
    unpadded = T.FixedSizeCrop((32, 32), pad=False).get_transform(image)
    assert unpadded.apply_image(image).shape[:2] == (min(32, shape[0]), min(32, shape[1]))


def test_iou_crop_keeps_what_it_promises():
    boxes = np.array([[20.0, 10.0, 40.0, 30.0], [22.0, 12.0, 44.0, 34.0]])
    aug = T.MinIoURandomCrop(min_ious=(0.3,))
    crops = [aug.get_transform(IMAGE, boxes) for _ in range(60)]
    cut = [crop for crop in crops if isinstance(crop, T.CropTransform)]
    assert 0 < len(cut) < len(crops)  # one mode in three is the whole image
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    for crop in cut:
        low, high = np.array([crop.x0, crop.y0]), np.array([crop.x0 + crop.w, crop.y0 + crop.h])
        assert ((centers > low) & (centers < high)).all(axis=1).any()
        assert crop.x0 >= 0 and crop.x0 + crop.w <= 60 and crop.y0 >= 0 and crop.y0 + crop.h <= 40
    assert isinstance(aug.get_transform(IMAGE, None), T.NoOpTransform)
