"""Transforms against detectron2's figures, Pillow, and pencil."""

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.data import transforms as T
from d2lite.data.transforms.transform import is_mirrored
from tests.golden import assert_within, case_names, load_case

GOLDEN = [name for name in case_names("transforms.") if name != "transforms.resize_shortest_edge"]

TURNED = {"transforms.rotation_expand", "transforms.rotation_noexpand"}
# OpenCV up to 4.11 weighs the four pixels in steps of 1/32 when it warps; later ones exactly.
LEVELS_BETWEEN_OPENCV_VERSIONS = 3


def _build(spec: dict) -> T.Transform:
    arguments = dict(spec["kwargs"])
    if spec["name"] == "TransformList":
        arguments = {"transforms": [_build(part) for part in arguments["transforms"]]}
    return getattr(T, spec["name"])(**arguments)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_transform(name):
    case = load_case(name)
    image, seg = case.inputs["image"], case.inputs["seg"]
    transform = _build(case.params["transform"])
    got = {
        "image": lambda: transform.apply_image(image.copy()),
        "gray": lambda: transform.apply_image(image[:, :, 0].copy()),
        "float_image": lambda: transform.apply_image(image.astype(np.float32)),
        "segmentation": lambda: transform.apply_segmentation(seg.copy()),
        "coords": lambda: transform.apply_coords(case.inputs["coords"].copy()),
        "box": lambda: transform.apply_box(case.inputs["boxes"].copy()),
        "rotated_box": lambda: transform.apply_rotated_box(case.inputs["rboxes"].copy()),
        "inverse_coords": lambda: transform.inverse().apply_coords(case.outputs["coords"].copy()),
    }
    compared = [key for key in case.outputs if key in got]
    assert len(compared) >= 4
    for key in compared:
        tolerance = case.tolerance_of(key)
        if name in TURNED and key in ("image", "gray", "float_image"):
            tolerance = {**tolerance, "atol": LEVELS_BETWEEN_OPENCV_VERSIONS}
        assert_within(f"{name}: {key}", got[key](), case.outputs[key], tolerance)


@pytest.mark.parametrize("name", [name for name in GOLDEN if name != "transforms.blend"])
def test_golden_polygons(name):
    case = load_case(name)
    polygons = [np.array(case.inputs["coords"][:5]), np.array(case.inputs["coords"][5:])]
    got = _build(case.params["transform"]).apply_polygons(polygons)
    assert len(got) == len(case.outputs["polygons"])
    for one, want in zip(got, case.outputs["polygons"], strict=True):
        assert_within(f"{name}: polygons", one, want, case.tolerance_of("polygons"))


@pytest.mark.parametrize(
    "size, share", [((100, 130), 0.01), ((40, 61), 0.01), ((61, 40), 0.01), ((7, 500), 0.3)]
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resize_equals_pillow_but_for_single_levels(size, share, channels):
    image = np.random.default_rng(0).integers(0, 256, (61, 83, channels), dtype=np.uint8)
    got = T.ResizeTransform(61, 83, *size).apply_image(image)
    want = np.stack(
        [
            np.asarray(Image.fromarray(image[:, :, c]).resize(size[::-1], Image.BILINEAR))
            for c in range(channels)
        ],
        axis=2,
    )
    difference = np.abs(got.astype(int) - want)
    assert got.shape == want.shape and got.dtype == np.uint8
    assert difference.max() <= 1
    assert (difference > 0).mean() < share


def test_resize_does_not_depend_on_threads_or_memory_layout():
    image = np.random.default_rng(1).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    resize = T.ResizeTransform(64, 80, 100, 125)
    threads = torch.get_num_threads()
    first = resize.apply_image(image)
    try:
        torch.set_num_threads(2)
        np.testing.assert_array_equal(resize.apply_image(image), first)
    finally:
        torch.set_num_threads(threads)
    flipped_view = image[:, ::-1]
    np.testing.assert_array_equal(
        resize.apply_image(flipped_view), resize.apply_image(flipped_view.copy())
    )


@pytest.mark.parametrize("filter_", [Image.NEAREST, Image.LANCZOS, Image.BOX])
def test_other_filters_are_pillows(filter_):
    image = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    got = T.ResizeTransform(20, 30, 33, 17, filter_).apply_image(image)
    want = np.asarray(Image.fromarray(image).resize((17, 33), filter_))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, bool])
@pytest.mark.parametrize(
    "transform", [T.ResizeTransform(4, 6, 8, 12), T.RotationTransform(4, 6, 90)]
)
def test_label_maps_of_any_type_keep_their_values(transform, dtype):
    labels = np.array([[0, 1] * 3, [1, 1] * 3] * 2, dtype=dtype)
    got = transform.apply_segmentation(labels)
    assert got.dtype == dtype
    assert set(np.unique(got)) == {0, 1}


def test_resize_of_labels_takes_the_pixel_under_the_center():
    # New pixel i covers the center (i + 0.5) * 4 / 2: 1 and 3.
    got = T.ResizeTransform(1, 4, 1, 2).apply_segmentation(np.array([[10, 20, 30, 40]]))
    np.testing.assert_array_equal(got, [[20, 40]])


def test_quarter_turn_moves_pixels_and_points_alike():
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    image[0, 5] = 255  # top right goes to top left, counter-clockwise
    turn = T.RotationTransform(4, 6, 90)
    turned = turn.apply_image(image)
    assert turned.shape == (6, 4, 3)
    assert turned[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_allclose(turn.apply_coords(np.array([[5.5, 0.5]])), [[0.5, 0.5]], atol=1e-9)


def test_rotation_that_loses_its_corners_has_no_inverse():
    with pytest.raises(NotImplementedError, match="corners"):
        T.RotationTransform(4, 6, 30, expand=False).inverse()


def test_vertical_flip_and_crop_move_rotated_boxes():
    box = np.array([[3.0, 1.0, 4.0, 2.0, 30.0]])
    np.testing.assert_allclose(
        T.VFlipTransform(10).apply_rotated_box(box.copy()), [[3, 9, 4, 2, -30]]
    )
    np.testing.assert_allclose(
        T.CropTransform(1, 1, 5, 5).apply_rotated_box(box.copy()), [[2, 0, 4, 2, 30]]
    )


def test_color_transforms_change_colors_only():
    image = np.full((2, 3, 3), 100, dtype=np.uint8)
    invert = T.PILColorTransform(lambda picture: picture.point(lambda value: 255 - value))
    assert invert.apply_image(image)[0, 0].tolist() == [155, 155, 155]
    half = T.ColorTransform(lambda array: array // 2)
    assert half.apply_image(image)[0, 0].tolist() == [50, 50, 50]
    points = np.array([[1.0, 2.0]])
    assert half.apply_coords(points) is points
    with pytest.raises(ValueError, match="function"):
        T.ColorTransform(3)


def test_resize_names_the_size_it_is_for():
    with pytest.raises(AssertionError, match="4 x 6"):
        T.ResizeTransform(4, 6, 8, 8).apply_image(np.zeros((5, 6, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "parts, mirrored",
    [("", False), ("h", True), ("hv", True), ("hh", False), ("v", False), ("hvh", False)],
)
def test_two_flips_are_no_mirror_image(parts, mirrored):
    flips = {"h": T.HFlipTransform(8), "v": T.VFlipTransform(6)}
    assert is_mirrored(T.TransformList([flips[part] for part in parts])) is mirrored
    if len(parts) == 1:
        assert is_mirrored(flips[parts]) is mirrored
