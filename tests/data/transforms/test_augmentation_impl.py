"""Each augmentation stays within its limits, reaches them, and draws from np.random only."""

import numpy as np
import pytest

from d2lite.data import transforms as T
from tests.golden import load_case

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _seeded():
    np.random.seed(0)


def test_golden_resize_shortest_edge():
    case = load_case("transforms.resize_shortest_edge")
    for short, longest in case.params["limits"]:
        got = [
            T.ResizeShortestEdge.get_output_shape(h, w, short, longest)
            for h, w in case.inputs["sizes"].tolist()
        ]
        case.check(f"{short}_{longest}", np.array(got))


def test_resize_shortest_edge_draws_as_told():
    ranged = T.ResizeShortestEdge((30, 32))
    assert {ranged.get_transform(IMAGE).new_h for _ in range(50)} == {30, 31, 32}
    chosen = T.ResizeShortestEdge((10, 30), sample_style="choice")
    assert {chosen.get_transform(IMAGE).new_h for _ in range(50)} == {10, 30}
    assert isinstance(T.ResizeShortestEdge(0).get_transform(IMAGE), T.NoOpTransform)


@pytest.mark.parametrize("arguments", [((1, 2, 3), 100, "range"), ((1, 2), 100, "random")])
def test_resize_shortest_edge_refuses_other_styles(arguments):
    with pytest.raises(ValueError):
        T.ResizeShortestEdge(*arguments)


def test_fixed_resizes():
    assert T.Resize(7).get_transform(IMAGE).apply_image(IMAGE).shape == (7, 7, 3)
    assert T.Resize((5, 9)).get_transform(IMAGE).apply_image(IMAGE).shape == (5, 9, 3)
    shapes = [(5, 9), (7, 7)]
    drawn = {
        T.RandomResize(shapes).get_transform(IMAGE).apply_image(IMAGE).shape[:2] for _ in range(30)
    }
    assert drawn == set(shapes)


@pytest.mark.parametrize("prob, kind", [(1.0, T.HFlipTransform), (0.0, T.NoOpTransform)])
def test_flip_follows_its_probability(prob, kind):
    assert all(isinstance(T.RandomFlip(prob).get_transform(IMAGE), kind) for _ in range(20))


def test_flip_goes_one_way():
    vertical = T.RandomFlip(1.0, horizontal=False, vertical=True)
    assert isinstance(vertical.get_transform(IMAGE), T.VFlipTransform)
    with pytest.raises(ValueError, match="one direction"):
        T.RandomFlip(vertical=True)


def test_random_apply_changes_the_input_or_not():
    for prob, width in ((1.0, 30), (0.0, 60)):
        aug_input = T.AugInput(IMAGE)
        T.RandomApply(T.Resize((20, 30)), prob)(aug_input)
        assert aug_input.image.shape[1] == width
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        T.RandomApply(T.Resize(3), 1.5)


@pytest.mark.parametrize("wrapped", [T.HFlipTransform(60), T.RandomFlip(1.0)])
def test_random_apply_takes_transforms_and_augmentations(wrapped):
    for prob, kind in ((1.0, T.HFlipTransform), (0.0, T.NoOpTransform)):
        apply = T.RandomApply(wrapped, prob)
        assert isinstance(apply.get_transform(IMAGE), kind)
        assert isinstance(apply(T.AugInput(IMAGE)), kind)
        assert isinstance(T.AugmentationList([apply])(T.AugInput(IMAGE))[0], kind)


def test_scale_jitter_keeps_proportions():
    resize = T.ResizeScale(0.5, 2.0, 100, 100).get_transform(IMAGE)
    assert 50 <= resize.new_w <= 200
    assert resize.new_h == pytest.approx(resize.new_w * 40 / 60, abs=1)


def test_extent_without_shift_and_scale_is_the_image():
    transform = T.RandomExtent((1.0, 1.0), (0.0, 0.0)).get_transform(IMAGE)
    np.testing.assert_array_equal(transform.apply_image(IMAGE), IMAGE)
    zoomed = T.RandomExtent((0.5, 0.5), (0.2, 0.2)).get_transform(IMAGE)
    assert zoomed.apply_image(IMAGE).shape == (20, 30, 3)


def test_rotation_draws_angle_and_center():
    assert isinstance(T.RandomRotation(360).get_transform(IMAGE), T.NoOpTransform)
    turn = T.RandomRotation((10, 20), center=(0.5, 0.25)).get_transform(IMAGE)
    assert 10 <= turn.angle <= 20
    assert turn.center == (30.0, 10.0)
    chosen = T.RandomRotation([90, 180], sample_style="choice", center=[(0, 0), (1, 1)])
    assert {chosen.get_transform(IMAGE).angle for _ in range(30)} == {90.0, 180.0}


@pytest.mark.parametrize(
    "aug",
    [
        T.RandomFlip(),
        T.ResizeShortestEdge((20, 40)),
        T.RandomCrop("relative_range", (0.5, 0.5)),
        T.RandomRotation((0, 90)),
        T.RandomExtent((0.5, 1.5), (0.3, 0.3)),
        T.RandomContrast(0.5, 1.5),
        T.ResizeScale(0.5, 2, 50, 50),
        T.FixedSizeCrop((20, 20)),
    ],
    ids=lambda aug: type(aug).__name__,
)
def test_the_same_seed_gives_the_same_image(aug):
    made = []
    for _ in range(2):
        np.random.seed(5)
        aug_input = T.AugInput(IMAGE)
        aug(aug_input)
        made.append(aug_input.image)
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize(
    "augmentation",
    [
        T.ResizeShortestEdge(8, max_size=20),
        T.ResizeScale(0.5, 0.5, 20, 20),
        T.RandomCrop("relative", [0.2, 0.2]),
        T.RandomCrop("relative_range", [0.1, 0.1]),
    ],
    ids=["shortest edge", "scale", "crop", "crop range"],
)
@pytest.mark.parametrize("shape", [(1, 900), (900, 1), (1, 900, 1), (1, 1, 3)])
def test_of_long_thin_images_a_line_is_left(augmentation, shape):
    image = np.full(shape, 7, np.uint8)
    result = augmentation.get_transform(image).apply_image(image)
    assert result.ndim == image.ndim
    assert min(result.shape) >= 1 and (result == 7).all()
