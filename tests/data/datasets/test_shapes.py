"""The embedded dataset: the same everywhere, and its labels fit what is drawn."""

import hashlib
import subprocess
import sys

import numpy as np
import pycocotools.mask as mask_util
import pytest

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets import shapes
from d2lite.data.datasets.shapes_scene import (
    CLASSES,
    TEXTURES,
    Scene,
    Shape,
    make_scene,
)
from d2lite.data.image_schemes import find_image_reader
from d2lite.structures import BoxMode


@pytest.fixture(scope="module")
def val():
    return DatasetCatalog.get("shapes_val")


@pytest.mark.parametrize("family", ["shapes", "shapes_rotated", "shapes_sem_seg"])
def test_lengths_and_unique_images(family):
    train, val = (DatasetCatalog.get(f"{family}_{split}") for split in ("train", "val"))
    assert (len(train), len(val)) == (2000, 200)
    assert len({r["file_name"] for r in train + val}) == 2200
    assert [r["image_id"] for r in val] == list(range(200))


def test_a_picture_is_the_same_in_another_process():
    name = "shapes://train/7"
    code = (
        "import hashlib; from d2lite.data.datasets.shapes import draw_image;"
        f"print(hashlib.sha256(draw_image({name!r}).tobytes()).hexdigest())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    digest = hashlib.sha256(shapes.draw_image(name).tobytes()).hexdigest()
    assert shown.stdout.strip() == digest, shown.stderr


def test_the_state_of_numpy_s_generator_does_not_matter():
    np.random.seed(1)
    first = shapes.draw_image("shapes://val/3")
    np.random.seed(2)
    state = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(shapes.draw_image("shapes://val/3"), first)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_pictures_differ_by_index_and_by_split():
    names = ["shapes://val/3", "shapes://val/4", "shapes://train/3", "shapes://rotated_val/3"]
    assert len({shapes.draw_image(name).tobytes() for name in names}) == 4


def test_pictures_are_rgb_of_the_size_that_is_told(val):
    for record in val[:20]:
        image = find_image_reader(record["file_name"])(record["file_name"])
        assert image.dtype == np.uint8
        assert image.shape == (record["height"], record["width"], 3)
        assert 160 <= min(image.shape[:2]) <= max(image.shape[:2]) <= 240
    landscape = [r["width"] > r["height"] for r in val]
    assert 0.5 < np.mean(landscape) < 0.8


def test_every_picture_has_one_to_six_shapes_and_every_class_occurs_often(val):
    counts = [len(r["annotations"]) for r in val]
    assert set(counts) == {1, 2, 3, 4, 5, 6}
    classes = [a["category_id"] for r in val for a in r["annotations"]]
    assert np.bincount(classes, minlength=len(CLASSES)).min() > 60


def test_boxes_lie_in_the_picture_and_hold_outline_and_keypoints(val):
    for record in val:
        for instance in record["annotations"]:
            x0, y0, x1, y1 = instance["bbox"]
            assert instance["bbox_mode"] == BoxMode.XYXY_ABS
            assert 0 <= x0 < x1 <= record["width"]
            assert 0 <= y0 < y1 <= record["height"]
            (outline,) = (np.reshape(p, (-1, 2)) for p in instance["segmentation"])
            np.testing.assert_allclose(outline.min(axis=0), (x0, y0))
            np.testing.assert_allclose(outline.max(axis=0), (x1, y1))
            keypoints = np.reshape(instance["keypoints"], (5, 3))
            assert (keypoints[:, :2] >= np.array([x0, y0]) - 1e-9).all()
            assert (keypoints[:, :2] <= np.array([x1, y1]) + 1e-9).all()


def test_polygons_fit_the_visible_segments(val):
    """COCO's own rasterizer, later shapes on top, against the panoptic picture."""
    differing = total = 0
    for record in val[:40]:
        height, width = record["height"], record["width"]
        expected = np.zeros((height, width), int)
        for position, instance in enumerate(record["annotations"]):
            rle = mask_util.merge(mask_util.frPyObjects(instance["segmentation"], height, width))
            expected[mask_util.decode(rle) > 0] = 1 + len(TEXTURES) + position
        ids = shapes.draw_panoptic(f"{record['file_name']}/panoptic")[..., 0].astype(int)
        ids[ids <= len(TEXTURES)] = 0
        differing += int((ids != expected).sum())
        total += int((expected > 0).sum())
    assert differing < 0.03 * total  # pixels on the outlines


def test_shapes_are_seen_where_the_labels_say(val):
    """Shapes are bright colors on dull ground: the spread of the channels tells them apart."""
    for record in val[:40]:
        image = shapes.draw_image(record["file_name"]).astype(int)
        spread = image.max(axis=2) - image.min(axis=2)
        labels = shapes.draw_sem_seg(f"{record['file_name']}/sem_seg")
        assert np.median(spread[labels == 0]) > 60
        assert np.median(spread[labels > 0]) < 60


def test_covered_keypoints_are_marked():
    square = Shape(category=1, center=(50.0, 40.0), size=(20.0, 20.0), angle=0.0, color=(0, 0, 0))
    cover = Shape(category=1, center=(50.0, 30.0), size=(8.0, 8.0), angle=0.0, color=(0, 0, 0))
    assert shapes._instance(square, (cover,))["keypoints"][2::3] == [1, 2, 2, 2, 2]
    assert shapes._instance(square, ())["keypoints"][2::3] == [2, 2, 2, 2, 2]


def test_rotated_boxes_are_frames_of_the_outlines():
    from d2lite.structures import RotatedBoxes

    angles = []
    for record in DatasetCatalog.get("shapes_rotated_val")[:50]:
        scene = make_scene("rotated_val", record["image_id"])
        for shape, instance in zip(scene.shapes, record["annotations"], strict=True):
            assert instance["bbox_mode"] == BoxMode.XYWHA_ABS
            angles.append(instance["bbox"][4])
            assert RotatedBoxes([instance["bbox"]]).area().item() == pytest.approx(
                shape.size[0] * shape.size[1], rel=1e-4
            )
            if CLASSES[shape.category] == "square":  # its outline is its frame
                straight = BoxMode.convert(instance["bbox"], BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS)
                np.testing.assert_allclose(straight, shape.box, atol=1e-3)
    assert min(angles) < -120
    assert max(angles) > 120


def test_semantic_labels_are_of_the_classes_that_are_told():
    names = MetadataCatalog.get("shapes_sem_seg_val").stuff_classes
    assert names == ["things", "noise", "gradient", "stripes", "checker"]
    found = set()
    for record in DatasetCatalog.get("shapes_sem_seg_val")[:40]:
        labels = find_image_reader(record["sem_seg_file_name"])(record["sem_seg_file_name"])
        assert labels.dtype == np.uint8
        assert labels.shape == (record["height"], record["width"])
        found |= set(np.unique(labels).tolist())
    assert found == set(range(len(names)))


def test_panoptic_segments_are_those_of_the_picture():
    metadata = MetadataCatalog.get("shapes_panoptic_val")
    for record in DatasetCatalog.get("shapes_panoptic_val")[:40]:
        name = record["pan_seg_file_name"]
        rgb = find_image_reader(name)(name).astype(int)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]
        labels = shapes.draw_sem_seg(record["sem_seg_file_name"])
        assert sorted(np.unique(ids).tolist()) == [s["id"] for s in record["segments_info"]]
        for segment in record["segments_info"]:
            where = ids == segment["id"]
            assert where.sum() == segment["area"]
            if segment["isthing"]:
                instance = record["annotations"][segment["id"] - 1 - len(TEXTURES)]
                assert segment["category_id"] == instance["category_id"]
                assert (labels[where] == 0).all()
            else:
                assert (labels[where] == segment["category_id"]).all()
    things = metadata.thing_dataset_id_to_contiguous_id
    stuff = metadata.stuff_dataset_id_to_contiguous_id
    assert sorted(things.values()) == list(range(len(metadata.thing_classes)))
    assert sorted(stuff.values()) == list(range(len(metadata.stuff_classes)))
    assert not things.keys() & stuff.keys()


def test_keypoint_metadata_are_consistent():
    metadata = MetadataCatalog.get("shapes_train")
    names = set(metadata.keypoint_names)
    assert {n for pair in metadata.keypoint_flip_map for n in pair} <= names
    assert {n for rule in metadata.keypoint_connection_rules for n in rule[:2]} <= names
    assert len(metadata.keypoint_oks_sigmas) == len(names)
    assert len(metadata.thing_colors) == len(metadata.thing_classes) == 6


@pytest.mark.parametrize(
    "name, message",
    [
        ("shapes://train/2000", "split 'train' has pictures 0 to 1999"),
        ("shapes://test/0", "expected shapes://SPLIT/INDEX.*splits are train, val, rotated_train"),
        ("shapes://train", "expected shapes://SPLIT/INDEX"),
        ("shapes://train/-1", "expected shapes://SPLIT/INDEX"),
        ("shapes://train/1/depth", "expected shapes://SPLIT/INDEX"),
    ],
)
def test_names_without_a_picture_are_errors(name, message):
    with pytest.raises(ValueError, match=message):
        find_image_reader(name)(name)


def test_shapes_on_the_edge_of_the_picture_are_drawn():
    """The outermost places a shape may take: one pixel from every edge."""
    image = np.zeros((30, 30, 3), np.uint8)
    shape = Shape(category=1, center=(15.0, 15.0), size=(28.0, 28.0), angle=0.0, color=(200, 0, 0))
    shapes._paint(image, shape)
    assert (image[1:-1, 1:-1, 0] > 0).all()
    assert not image[[0, -1]].any()
    assert not image[:, [0, -1]].any()
    assert image[2, 15, 0] > image[27, 15, 0] + 50  # brighter at its top


def test_a_scene_without_shapes_has_stuff_only():
    scene = make_scene("val", 0)
    ids, labels = shapes._segments(Scene(scene.height, scene.width, scene.regions, ()))
    np.testing.assert_array_equal(ids, labels)
    assert ids.min() >= 1
