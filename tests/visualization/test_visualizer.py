"""Positions of what is drawn, checked by pixels."""

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
from d2lite.visualization import ColorMode, GenericMask, Visualizer, create_text_labels

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


def test_scale_changes_the_drawing_and_not_the_coordinates():
    visualizer = Visualizer(GRAY, METADATA, scale=2.0)
    picture = visualizer.draw_box((20, 30, 100, 90), alpha=1).get_image()
    assert picture.shape == (240, 320, 3)
    assert (picture[60, 42:198] != 128).any(axis=-1).all()
    half = Visualizer(GRAY, METADATA, scale=0.5).draw_box((20, 30, 100, 90)).get_image()
    assert half.shape == (60, 80, 3)


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


def test_without_metadata_classes_are_numbers():
    seg = np.zeros((120, 160), int)
    infos = [{"id": 0, "isthing": False, "category_id": 3}]
    drawn = Visualizer(GRAY).draw_panoptic_seg(seg, infos).get_image()
    assert changed(drawn).all()
    assert Visualizer(GRAY).metadata.get("thing_classes", ["none"]) == ["none"]


@pytest.mark.parametrize("name", ["draw_polygon", "draw_text"])
def test_a_method_that_a_program_replaces_is_called(name, monkeypatch):
    calls = []
    own = getattr(Visualizer, name)

    def replacement(self, *args, **kwargs):
        calls.append(name)
        return own(self, *args, **kwargs)

    part = {"masks": [np.ones((120, 160), np.uint8)], "labels": ["all"]}
    monkeypatch.setattr(f"d2lite.utils.visualizer.Visualizer.{name}", replacement)
    draw("overlay_instances", **part)
    assert calls == [name]
