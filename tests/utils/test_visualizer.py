"""What is drawn where: judged by pixels, since looks can only be looked at."""

import cv2
import numpy as np
import pytest
import torch

from d2lite.data import DatasetCatalog, Metadata, MetadataCatalog
from d2lite.data.detection_utils import read_image
from d2lite.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    Instances,
    Keypoints,
    PolygonMasks,
    RotatedBoxes,
)
from d2lite.utils.canvas import VisImage
from d2lite.utils.colors import distinct_color, to_rgb
from d2lite.utils.generic_mask import GenericMask
from d2lite.utils.label_layout import LabelLayout
from d2lite.utils.visualizer import ColorMode, Visualizer, create_text_labels

GRAY = np.full((120, 160, 3), 128, np.uint8)
METADATA = Metadata(
    name="pictures",
    thing_classes=["cat", "dog"],
    thing_colors=[(255, 0, 0), (0, 0, 255)],
    stuff_classes=["things", "grass", "sky"],
    stuff_colors=[(0, 0, 0), (0, 255, 0), (0, 255, 255)],
)


def changed(picture, before=GRAY):
    """(H, W) bool: pixels that differ from the image."""
    return (picture != before).any(axis=-1)


def draw(method, *args, **kwargs):
    visualizer = Visualizer(GRAY, METADATA)
    output = getattr(visualizer, method)(*args, **kwargs)
    assert output is visualizer.get_output()
    return output.get_image()


# -- single things --------------------------------------------------------------------------------


def test_box_is_drawn_on_its_edges_only():
    picture = draw("draw_box", (20, 30, 100, 90), edge_color="r", alpha=1)
    mask = changed(picture)
    assert mask[30, 20:100].all() and mask[89, 20:100].all()
    assert mask[30:90, 20].all() and mask[30:90, 99].all()
    assert not mask[33:87, 23:97].any() and not mask[:28].any()
    assert tuple(picture[30, 50]) == (255, 0, 0)


def test_box_over_the_border_stays_visible():
    mask = changed(draw("draw_box", (-30, -30, 300, 300), alpha=1))
    assert mask[0].all() and mask[-1].all() and mask[:, 0].all() and mask[:, -1].all()


def test_dashed_box_has_gaps():
    dashed = changed(draw("draw_box", (20, 30, 100, 90), alpha=1, line_style="--"))
    upper_edge = dashed[28:33, 20:100].any(axis=0)
    assert 0.3 < upper_edge.mean() < 0.9
    with pytest.raises(ValueError, match="line style 'x'"):
        draw("draw_box", (20, 30, 100, 90), line_style="x")


def test_alpha_mixes_colors():
    picture = draw("draw_binary_mask", np.ones((120, 160), np.uint8), color="w", alpha=0.5)
    assert abs(int(picture[60, 80, 0]) - 192) <= 1


def test_polygon_is_filled():
    picture = draw("draw_polygon", np.array([(20, 20), (80, 20), (80, 60), (20, 60)]), "b", alpha=1)
    assert (picture[22:58, 22:78] == (0, 0, 255)).all()
    assert not changed(picture)[62:, :].any()


def test_circle_line_and_text():
    assert changed(draw("draw_circle", (80, 60), "r"))[58:62, 78:82].all()
    assert changed(draw("draw_line", [10, 150], [20, 20], "r"))[19:21, 12:148].any(axis=0).all()
    left = changed(draw("draw_text", "word", (80, 50), horizontal_alignment="left"))
    right = changed(draw("draw_text", "word", (80, 50), horizontal_alignment="right"))
    assert not left[:, :79].any() and not right[:, 81:].any()
    assert left.sum() == right.sum() > 100
    turned = changed(draw("draw_text", "long word", (80, 50), rotation=90))
    assert np.ptp(np.flatnonzero(turned.any(1))) > np.ptp(np.flatnonzero(turned.any(0)))
    with pytest.raises(ValueError, match="horizontal_alignment"):
        draw("draw_text", "word", (80, 50), horizontal_alignment="middle")


def test_rotated_box_turns_counter_clockwise():
    # A long box turned by 30 degrees: it rises to the right.
    picture = draw("draw_rotated_box_with_label", (80, 60, 100, 4, 30), alpha=1, label=None)
    mask = changed(picture)
    assert mask[25:60, 100:].any() and not mask[65:, 100:].any()
    assert mask[65:100, :60].any() and not mask[:55, :60].any()


def test_mask_leaves_out_small_parts():
    mask = np.zeros((120, 160), np.uint8)
    mask[50:90, 50:90], mask[5:8, 5:8] = 1, 1
    assert not changed(draw("draw_binary_mask", mask, area_threshold=10))[:20, :20].any()
    assert changed(draw("draw_binary_mask", mask, area_threshold=0))[5:8, 5:8].all()
    assert not changed(draw("draw_binary_mask", np.zeros((120, 160), np.uint8), text="no")).any()


def test_mask_with_a_hole_keeps_it():
    mask = np.zeros((120, 160), np.uint8)
    mask[20:100, 20:100] = 1
    mask[40:80, 40:80] = 0
    drawn = changed(draw("draw_binary_mask", mask, color="r"))
    assert drawn[30, 30] and not drawn[45:75, 45:75].any()


def test_soft_mask_is_as_strong_as_its_values():
    soft = np.zeros((120, 160), np.float32)
    soft[:, 40:80], soft[:, 80:] = 0.5, 1
    picture = draw("draw_soft_mask", soft, color="w", alpha=1).astype(int)
    assert picture[60, 20, 0] == 128 and picture[60, 120, 0] == 255
    assert abs(picture[60, 60, 0] - 191.5) <= 1
    assert changed(draw("draw_soft_mask", soft, text="soft")).any()


def test_keypoints_are_drawn_and_connected_by_the_metadata():
    metadata = Metadata(
        name="points",
        keypoint_names=["a", "b", "nose", "left_shoulder", "right_shoulder"],
        keypoint_connection_rules=[("a", "b", (0, 255, 0)), ("a", "missing", (1, 1, 1))],
    )
    points = [(20, 20, 1), (60, 20, 1), (100, 20, 1), (80, 80, 1), (120, 80, 1)]
    picture = Visualizer(GRAY, metadata).draw_and_connect_keypoints(points).get_image()
    red, green, blue = picture[20, 40].astype(int)  # between a and b
    assert green > 200 and red < 60 and blue < 60
    assert changed(picture)[40:70, 99:102].any(axis=1).all()  # from the nose to the shoulders
    hidden = [(x, y, 0.01) for x, y, _ in points]
    unseen = Visualizer(GRAY, metadata).draw_and_connect_keypoints(hidden).get_image()
    assert not changed(unseen).any()


# -- several objects ------------------------------------------------------------------------------


def two_instances(**fields):
    found = Instances((120, 160))
    found.pred_boxes = Boxes(torch.tensor([[10.0, 30.0, 60.0, 90.0], [80.0, 30.0, 150.0, 110.0]]))
    found.scores, found.pred_classes = torch.tensor([0.9, 0.6]), torch.tensor([0, 1])
    for name, value in fields.items():
        found.set(name, value)
    return found


def test_predictions_are_drawn_with_labels_above():
    picture = draw("draw_instance_predictions", two_instances())
    mask = changed(picture)
    assert mask[30, 10:60].all() and mask[20:28, 12:30].any()
    assert not mask[:10].any()


@pytest.mark.parametrize("mode", list(ColorMode))
def test_every_mode_draws_masks(mode):
    masks = torch.zeros(2, 120, 160, dtype=torch.bool)
    masks[0, 40:80, 20:50], masks[1, 40:100, 90:140] = True, True
    image = np.dstack([np.full((120, 160), v, np.uint8) for v in (200, 100, 30)])
    visualizer = Visualizer(image, METADATA, instance_mode=mode)
    picture = visualizer.draw_instance_predictions(two_instances(pred_masks=masks)).get_image()
    assert changed(picture, image)[60, 35] and changed(picture, image)[60, 110]
    background = picture[5, 5].tolist()
    assert background == ([110] * 3 if mode == ColorMode.IMAGE_BW else [200, 100, 30])
    if mode == ColorMode.SEGMENTATION:  # the class's color, more or less
        assert picture[60, 35, 0] > 150 and picture[60, 110, 2] > 150


def test_predictions_without_anything_change_nothing():
    masks = torch.zeros(2, 120, 160, dtype=torch.bool)
    for found in (two_instances(), two_instances(pred_masks=masks)):
        assert not changed(draw("draw_instance_predictions", found[[]])).any()
    assert changed(draw("draw_instance_predictions", two_instances(pred_masks=masks))).any()


def test_drawing_does_not_touch_the_global_random_numbers():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    visualizer = Visualizer(GRAY, METADATA, instance_mode=ColorMode.SEGMENTATION)
    first = visualizer.draw_instance_predictions(two_instances()).get_image()
    np.testing.assert_array_equal(before, np.random.get_state()[1])
    second = Visualizer(GRAY, METADATA, instance_mode=ColorMode.SEGMENTATION)
    np.testing.assert_array_equal(
        first, second.draw_instance_predictions(two_instances()).get_image()
    )


def test_overlay_takes_all_forms_of_its_parts():
    polygon = [[20.0, 40.0, 50.0, 40.0, 50.0, 80.0, 20.0, 80.0]]
    bits = np.zeros((120, 160), np.uint8)
    bits[40:80, 20:50] = 1
    forms = [
        [polygon],
        PolygonMasks([polygon]),
        BitMasks(torch.from_numpy(bits[None]).bool()),
        torch.from_numpy(bits[None]),
        [bits],
        [GenericMask(polygon, 120, 160)],
    ]
    for masks in forms:
        mask = changed(draw("overlay_instances", masks=masks, labels=["a"]))
        assert mask[42:78, 22:48].all() and not mask[85:].any()
    boxes = [Boxes(torch.tensor([[10.0, 20.0, 50.0, 60.0]])), np.array([[10, 20, 50, 60]])]
    first, second = (draw("overlay_instances", boxes=b) for b in boxes)
    np.testing.assert_array_equal(first, second)
    points = torch.tensor([[[30.0, 30.0, 2.0], [60.0, 60.0, 2.0]]])
    first = draw("overlay_instances", keypoints=Keypoints(points), labels=["x"])
    assert changed(first)[30, 30] and changed(first)[60, 60]
    rotated = RotatedBoxes(torch.tensor([[80.0, 60.0, 40.0, 20.0, 30.0]]))
    first = draw("overlay_instances", boxes=rotated, labels=["r"])
    second = draw("overlay_rotated_instances", rotated, ["r"])
    np.testing.assert_array_equal(first, second)


def test_parts_of_different_length_are_an_error():
    with pytest.raises(ValueError, match=r"different length: \{'boxes': 1, 'labels': 2\}"):
        draw("overlay_instances", boxes=np.array([[1, 2, 3, 4]]), labels=["a", "b"])


def test_semantic_segmentation_colors_known_classes():
    labels = np.full((120, 160), 255)
    labels[:60, :80], labels[60:, 80:] = 1, 2
    picture = draw("draw_sem_seg", torch.from_numpy(labels), alpha=1, draw_text=False)
    assert tuple(picture[30, 40]) == (0, 255, 0) and tuple(picture[90, 120]) == (0, 255, 255)
    assert not changed(picture)[65:, :75].any()
    assert (draw("draw_sem_seg", labels) != draw("draw_sem_seg", labels, draw_text=False)).any()


@pytest.mark.parametrize("mode", list(ColorMode))
def test_panoptic_segmentation(mode):
    ids = torch.zeros(120, 160, dtype=torch.int32)
    ids[:60], ids[70:110, 20:70] = 1, 2
    segments = [
        {"id": 1, "isthing": False, "category_id": 2},
        {"id": 2, "isthing": True, "category_id": 1, "score": 0.9},
    ]
    visualizer = Visualizer(GRAY, METADATA, instance_mode=mode)
    picture = visualizer.draw_panoptic_seg_predictions(ids, segments).get_image()
    mask = changed(picture)
    assert mask[2:58, 2:158].all() and mask[75:105, 25:65].all() and not mask[80:, 80:].any()


def test_panoptic_ids_may_hold_the_category():
    metadata = Metadata(
        name="coded", label_divisor=1000, thing_dataset_id_to_contiguous_id={9: 0},
        thing_classes=["cat"], stuff_classes=["things", "grass"],
    )  # fmt: skip
    ids = np.full((120, 160), -1)
    ids[:60], ids[60:100, :80] = 1000, 3
    picture = Visualizer(GRAY, metadata).draw_panoptic_seg(ids, None).get_image()
    assert changed(picture)[2:58].all() and not changed(picture)[105:].any()


# -- datasets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["shapes_val", "shapes_rotated_val", "shapes_sem_seg_val", "shapes_panoptic_val"]
)
def test_dataset_dicts_of_every_kind(name):
    record = DatasetCatalog.get(name)[0]
    image = read_image(record["file_name"], "RGB")
    visualizer = Visualizer(image, MetadataCatalog.get(name))
    picture = visualizer.draw_dataset_dict(record).get_image()
    assert picture.shape == image.shape
    share = changed(picture, image).mean()
    assert share > (0.9 if "seg" in name or "panoptic" in name else 0.02)


def test_crowds_are_marked_and_missing_parts_are_fine():
    annotation = {
        "bbox": [20, 40, 60, 50], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 1
    }  # fmt: skip
    assert changed(draw("draw_dataset_dict", {"annotations": [annotation]}))[40, 20:80].all()
    assert not changed(draw("draw_dataset_dict", {"annotations": []})).any()
    assert not changed(draw("draw_dataset_dict", {})).any()


@pytest.mark.parametrize(
    "args, expected",
    [
        (([0, 1], [0.87, 1.0], ["cat", "dog"]), ["cat 87%", "dog 100%"]),
        (([0, 5], None, ["cat"]), ["cat", "5"]),
        ((None, [0.5], None), ["50%"]),
        (([1], None, None, [1]), ["1|crowd"]),
        ((None, None, None), None),
    ],
)
def test_labels(args, expected):
    assert create_text_labels(*args) == expected


# -- the canvas -----------------------------------------------------------------------------------


def test_scale_changes_the_drawing_and_not_the_coordinates():
    visualizer = Visualizer(GRAY, METADATA, scale=2.0)
    picture = visualizer.draw_box((20, 30, 100, 90), alpha=1).get_image()
    assert picture.shape == (240, 320, 3)
    assert (picture[60, 42:198] != 128).any(axis=-1).all()
    half = Visualizer(GRAY, METADATA, scale=0.5).draw_box((20, 30, 100, 90)).get_image()
    assert half.shape == (60, 80, 3)


def test_saving(tmp_path):
    output = Visualizer(GRAY, METADATA).draw_box((20, 30, 100, 90), edge_color=(1, 0, 0), alpha=1)
    output.save(str(tmp_path / "x.png"))
    np.testing.assert_array_equal(
        cv2.imread(str(tmp_path / "x.png"))[..., ::-1], output.get_image()
    )
    with pytest.raises(OSError, match=r"'\.what' is no image format"):
        output.save(str(tmp_path / "x.what"))


def test_images_of_other_types_and_the_original_are_left_alone():
    image = np.full((50, 60, 3), 300.7, np.float32)
    visualizer = Visualizer(image)
    assert visualizer.get_output().get_image().dtype == np.uint8
    before = GRAY.copy()
    draw("draw_box", (20, 30, 100, 90))
    np.testing.assert_array_equal(GRAY, before)
    picture = visualizer.get_output().get_image()
    picture[:] = 0
    assert visualizer.get_output().get_image().max() == 255


def test_shapes_outside_of_the_image_are_no_error():
    canvas = VisImage(GRAY)
    canvas.line(np.array([(-50, -50), (-10, -10)]), "r", 2)
    canvas.circle((500, 500), 5, "r")
    canvas.label("word", (1000, -1000), 12, "r")
    canvas.line(np.array([(np.nan, 1), (2, 3)]), "r", 2)
    assert not changed(canvas.get_image()).any()


@pytest.mark.parametrize(
    "color, expected",
    [
        ("r", (1, 0, 0)),
        ("#ff8000", (1, 128 / 255, 0)),
        ("tomato", (1, 99 / 255, 71 / 255)),
        ((0.1, 0.2, 0.3), (0.1, 0.2, 0.3)),
        (np.array([0.1, 0.2, 0.3, 1.0]), (0.1, 0.2, 0.3)),
    ],
)
def test_colors(color, expected):
    assert to_rgb(color) == pytest.approx(expected)


@pytest.mark.parametrize("color", [(255, 0, 0), (0.1, 0.2), "no such color"])
def test_wrong_colors(color):
    with pytest.raises(ValueError):
        to_rgb(color)


def test_neighbouring_colors_differ():
    colors = np.array([distinct_color(i) for i in range(24)])
    distance = np.abs(colors[:, None] - colors[None]).sum(-1) + 9 * np.eye(24)
    assert distance.min() > 0.1 and distance.diagonal(1).min() - 0 > 0.5


def test_labels_avoid_each_other():
    layout = LabelLayout((200, 200))
    size = (40, 10)
    frames = [np.array([20.0 + 5 * i, 50.0, 120.0, 120.0]) for i in range(4)]
    places = [layout.place(size, frame) for frame in frames]
    assert places[0] == (20, 40)  # above, at the left
    for i, (x0, y0) in enumerate(places):
        for x1, y1 in places[i + 1 :]:
            assert abs(x0 - x1) >= 40 or abs(y0 - y1) >= 10
    x, y = LabelLayout((200, 200)).place(size, np.array([190.0, 0.0, 199.0, 9.0]))
    assert 0 <= x <= 160 and 0 <= y <= 190


# -- masks ----------------------------------------------------------------------------------------


def test_generic_mask_converts_between_its_forms():
    from pycocotools import mask as mask_util

    bits = np.zeros((20, 30), np.uint8)
    bits[5:15, 10:20] = 1
    compressed = mask_util.encode(np.asfortranarray(bits))
    flat = bits.flatten(order="F")
    runs = np.diff(np.flatnonzero(np.concatenate([[1], np.diff(flat), [1]]))).tolist()
    polygon = [[10.0, 5.0, 20.0, 5.0, 20.0, 15.0, 10.0, 15.0]]
    for form in (bits, compressed, {"size": [20, 30], "counts": runs}, polygon):
        mask = GenericMask(form, 20, 30)
        np.testing.assert_array_equal(mask.mask, bits)
        assert mask.area() == 100 and not mask.has_holes
        np.testing.assert_array_equal(mask.bbox(), [10, 5, 20, 15])
        assert len(mask.polygons) == 1


def test_generic_mask_with_a_hole_and_without_anything():
    bits = np.zeros((20, 30), bool)
    bits[2:18, 2:28], bits[8:12, 8:22] = True, False
    assert GenericMask(bits, 20, 30).has_holes
    empty = GenericMask(np.zeros((20, 30)), 20, 30)
    assert empty.polygons == [] and empty.area() == 0 and empty.bbox().tolist() == [0, 0, 0, 0]
    assert GenericMask([[1.0, 1.0, 2.0, 2.0]], 20, 30).area() == 0  # two points


@pytest.mark.parametrize(
    "form, message",
    [
        (np.zeros((5, 5)), "size .5, 5., but its image is 20 x 30"),
        ({"size": [20, 30]}, "keys counts and size"),
        ("mask", "cannot make a mask of a str"),
    ],
)
def test_generic_mask_of_something_else(form, message):
    with pytest.raises(ValueError, match=message):
        GenericMask(form, 20, 30)


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("mode", list(ColorMode))
@pytest.mark.parametrize(
    "image",
    [GRAY[..., 0], GRAY[..., :1], np.dstack([GRAY, GRAY[..., :1] * 0 + 255]), GRAY[..., 0] * 1.0],
    ids=["gray", "one channel", "RGBA", "gray floats"],
)
def test_images_of_any_channels_are_drawn_as_their_colors(image, mode, scale):
    found = Instances((120, 160), pred_boxes=Boxes(torch.tensor([[20.0, 20, 90, 70]])))
    found.pred_classes = torch.tensor([1])
    drawings = [
        Visualizer(one, METADATA, scale, mode).draw_instance_predictions(found).get_image()
        for one in (image, GRAY)
    ]
    if mode == ColorMode.IMAGE:  # the others vary colors
        assert np.array_equal(*drawings)
    assert drawings[0].shape == drawings[1].shape


def test_transparent_parts_are_white():
    rgba = np.zeros((2, 1, 4), np.uint8)
    rgba[1] = 100, 0, 200, 51  # a fifth of the color, four fifths of white
    assert Visualizer(rgba).get_output().get_image().tolist() == [[[255] * 3], [[224, 204, 244]]]
    gray = np.array([[[100, 51]]], np.uint8)
    assert Visualizer(gray).get_output().get_image().tolist() == [[[224] * 3]]


@pytest.mark.parametrize("shape", [(5,), (4, 4, 5), (4, 4, 3, 1)])
def test_what_is_no_image_is_an_error(shape):
    with pytest.raises(ValueError, match="with 1 to 4 channels, got"):
        Visualizer(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "image",
    [GRAY / 255.0, GRAY.astype(np.uint16) * 257, GRAY.astype(np.float32), GRAY.astype(np.int64)],
    ids=["0 to 1", "16 bits", "0 to 255", "int64"],
)
def test_numbers_of_any_type_are_drawn_as_their_brightness(image):
    assert np.array_equal(Visualizer(image).get_output().get_image(), GRAY)


def test_masks_are_drawn_in_black_and_white():
    assert Visualizer(GRAY[..., 0] > 100).get_output().get_image().max() == 255
