"""Augmentations of albumentations by a key; most need the package."""

import itertools
import json
import sys

import numpy as np
import pytest
import torch

from d2lite.config import get_cfg
from d2lite.data import build_detection_train_loader
from d2lite.data.albumentations import KEY, Albumentations
from d2lite.data.common import DatasetFromList
from d2lite.data.mixing import Scene
from d2lite.data.stream import seeded_rng
from tests.data.test_mixing import KINDS, areas, check_objects, make_dataset, make_mapper


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "albumentations", None)  # importing it fails
    with pytest.raises(ImportError, match=r"INPUT.ALBUMENTATIONS .*'d2lite\[albumentations\]'"):
        Albumentations(["Blur"], image_format="BGR")


@pytest.fixture
def package(monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    return pytest.importorskip("albumentations")


MOVES = [
    {"HorizontalFlip": {"p": 0.5}},
    {"RandomRotate90": {"p": 0.7}},
    {"Affine": {"translate_px": {"x": [-20, 20], "y": [-9, 9]}, "p": 0.8}},
    {"CenterCrop": {"height": 40, "width": 40}},
]


@pytest.mark.parametrize("kind", ["box", "rle"])
def test_boxes_and_masks_are_where_the_colors_are(package, tmp_path, kind):
    dicts = make_dataset(tmp_path, kind)
    mapper = make_mapper(kind, None, albumentations=Albumentations(MOVES, image_format="BGR"))
    whole, cut, images = areas(dicts), 0, set()
    for seed in range(40):
        with seeded_rng(seed):
            sample = mapper(dicts[seed % len(dicts)])
        assert sample["image"].shape == (3, 40, 40)
        sample["once"] = set(whole)
        boxes = sample["instances"].gt_boxes
        boxes.tensor = boxes.tensor.round(decimals=3)  # albumentations divides by the size
        cut += check_objects(sample, kind, whole, 0.0)
        images.add(sample["image"].sum().item())
    assert cut > 5 and len(images) > 10


def test_polygons_become_masks_where_the_model_takes_bitmaps(package, tmp_path):
    dicts = make_dataset(tmp_path, "polygon")
    mapper = make_mapper("rle", None, albumentations=Albumentations(MOVES, image_format="BGR"))
    whole = areas(dicts)
    for seed in range(10):
        with seeded_rng(seed):
            sample = {**mapper(dicts[0]), "once": set(whole)}
        check_objects(sample, "rle", whole, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_changes_of_color_leave_objects_alone(package, tmp_path, kind):
    dicts = make_dataset(tmp_path, kind)
    inverted = Albumentations([{"InvertImg": {"p": 1.0}}], image_format="BGR")
    plain = make_mapper(kind, None)(dicts[0])
    changed = make_mapper(kind, None, albumentations=inverted)(dicts[0])
    assert torch.equal(changed["image"], 255 - plain["image"])
    assert torch.equal(changed["instances"].gt_boxes.tensor, plain["instances"].gt_boxes.tensor)
    if kind == "polygon":
        [[first], *_] = plain["instances"].gt_masks.polygons
        assert np.array_equal(changed["instances"].gt_masks.polygons[0][0], first)


@pytest.mark.parametrize("image_format, expected", [("BGR", [0, 0, 76]), ("RGB", [76, 0, 0])])
def test_augmentations_of_colors_see_rgb(package, image_format, expected):
    shift = {"r_shift_limit": [76, 76], "g_shift_limit": [0, 0], "b_shift_limit": [0, 0], "p": 1.0}
    built = Albumentations([{"RGBShift": shift}], image_format=image_format)
    scene, _ = built(Scene(np.zeros((4, 4, 3), dtype=np.uint8), []))
    assert scene.image[0, 0].tolist() == expected


def test_keypoints_move_and_change_sides_in_a_mirror(package, tmp_path):
    dicts = make_dataset(tmp_path, "box", keypoints=True)
    flip = [{"HorizontalFlip": {"p": 1.0}}]
    built = Albumentations(flip, image_format="BGR", keypoint_hflip_indices=[1, 0])
    mapper = make_mapper("box", None, albumentations=built, use_keypoint=True)
    sample = mapper(dicts[0])
    for annotation, points in zip(
        dicts[0]["annotations"], sample["instances"].gt_keypoints.tensor.tolist(), strict=True
    ):
        x0, y0, _, x1, y1, _ = annotation["keypoints"]
        assert points == [[80 - x1, y1, 2], [80 - x0, y0, 2]]
    turned = Albumentations(
        [{"Rotate": {"limit": [90, 90], "p": 1.0}}],
        image_format="BGR",
        keypoint_hflip_indices=[1, 0],
    )
    sample = make_mapper("box", None, albumentations=turned, use_keypoint=True)(dicts[0])
    for category, points in zip(
        sample["instances"].gt_classes.tolist(),
        sample["instances"].gt_keypoints.tensor.tolist(),
        strict=True,
    ):
        x0, y0, _, x1, y1, _ = dicts[0]["annotations"][category]["keypoints"]
        for (x, y), (found_x, found_y, visibility) in zip(
            [(x0, y0), (x1, y1)], points, strict=True
        ):
            if visibility:  # counter-clockwise about (40, 30)
                assert (found_x, found_y) == pytest.approx((40 + (y - 30), 30 - (x - 40)))
    unknown = Albumentations(flip, image_format="BGR")
    with pytest.raises(TypeError, match=r"HorizontalFlip.*keypoint_flip_map"):
        make_mapper("box", None, albumentations=unknown, use_keypoint=True)(dicts[0])


def test_label_images_move_with_the_image(package):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    built = Albumentations([{"VerticalFlip": {"p": 1.0}}], image_format="RGB")
    scene, labels = built(Scene(image, []), image[:, :, 0])
    assert np.array_equal(scene.image, image[::-1]) and np.array_equal(labels, image[::-1, :, 0])


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_pipeline_from_a_file(package, tmp_path, suffix):
    path = str(tmp_path / f"pipeline.{suffix}")
    either = package.OneOf([package.HorizontalFlip(p=1.0), package.VerticalFlip(p=1.0)], p=1.0)
    package.save(package.Compose([either]), path, data_format=suffix)
    dicts = make_dataset(tmp_path, "box")
    plain = make_mapper("box", None)(dicts[0])["image"]
    mapper = make_mapper("box", None, albumentations=Albumentations([path], image_format="BGR"))
    seen = set()
    for seed in range(12):
        with seeded_rng(seed):
            image = mapper(dicts[0])["image"]
        seen.add((torch.equal(image, plain.flip(2)), torch.equal(image, plain.flip(1))))
    assert seen == {(True, False), (False, True)}


def test_samples_depend_on_seed_and_position_alone(package, tmp_path):
    dicts = make_dataset(tmp_path, "box")
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("INPUT.ALBUMENTATIONS", MOVES, "INPUT.MIN_SIZE_TRAIN", (60,), "SEED", 1),
            *("SOLVER.IMS_PER_BATCH", 2, "INPUT.MIX.MOSAIC_PROB", 0.5),
        ]
    )
    found = []
    for workers in (0, 2):
        cfg.DATALOADER.NUM_WORKERS = workers
        batches = iter(build_detection_train_loader(cfg, dataset=DatasetFromList(dicts)))
        found.append([[x["image"] for x in batch] for batch in itertools.islice(batches, 5)])
        batches.close()
    for one, other in zip(*map(itertools.chain.from_iterable, found), strict=True):
        assert torch.equal(one, other)


def test_the_key_in_a_config_file(package, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "INPUT:\n  MASK_FORMAT: bitmask\n  ALBUMENTATIONS:\n    - RandomRotate90\n"
        "    - HueSaturationValue: {hue_shift_limit: 10, p: 0.3}\n",
        encoding="utf-8",
    )
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    again = get_cfg()
    (tmp_path / "dumped.yaml").write_text(cfg.dump(), encoding="utf-8")
    again.merge_from_file(str(tmp_path / "dumped.yaml"))
    assert again.INPUT.ALBUMENTATIONS == cfg.INPUT.ALBUMENTATIONS
    built = Albumentations.from_config(again, None)
    assert "RandomRotate90(" in repr(built) and "hue_shift_limit=(-10.0, 10.0)" in repr(built)


@pytest.mark.parametrize(
    "augmentations, error, message",
    [
        (["Blurr"], ValueError, "no augmentation 'Blurr'. Did you mean .*Blur"),
        ([{"Blur": {"limit": 3}}], ValueError, r"Blur: Argument\(s\) 'limit'"),
        ([{"Blur": {"blur_limit": "x"}}], ValueError, "Blur: .*blur_limit"),
        ([{"Blur": 3}], ValueError, "Blur has 3; expected arguments by name"),
        ([3], ValueError, f"{KEY} has 3; expected a name"),
        (["ToTensorV2"], ValueError, "no augmentation 'ToTensorV2'"),
        (["OneOf"], ValueError, "Groups such as OneOf need a file"),
        (["absent.yaml"], FileNotFoundError, "file not found: absent.yaml"),
    ],
)
def test_errors_name_the_key(package, augmentations, error, message):
    with pytest.raises(error, match=message):
        Albumentations(augmentations, image_format="BGR")


@pytest.mark.parametrize(
    "content, message",
    [
        ({"a": 1}, "not a pipeline"),
        ({"transform": {"__class_fullname__": "os.system", "p": 1}}, "os.system"),
        ({"transform": {"__class_fullname__": "ToTensorV2", "p": 1}}, "does not return an image"),
    ],
)
def test_files_that_are_not_pipelines(package, tmp_path, content, message):
    path = tmp_path / "pipeline.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Albumentations([str(path)], image_format="BGR")


def test_a_change_of_type_is_an_error(package, tmp_path):
    dicts = make_dataset(tmp_path, "box")
    built = Albumentations(["Normalize"], image_format="BGR")
    with pytest.raises(TypeError, match=r"was uint8 and became float32; leave out .* Normalize"):
        make_mapper("box", None, albumentations=built)(dicts[0])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"MODEL.MASK_ON": True}, "HorizontalFlip, which needs masks as bitmaps: set INPUT.MASK"),
        ({"MODEL.LOAD_PROPOSALS": True}, "cannot move precomputed proposals"),
        ({"MODEL.RPN.BBOX_REG_WEIGHTS": (1.0,) * 5}, "cannot move rotated boxes"),
    ],
)
def test_what_cannot_be_moved_is_an_error_before_training(package, settings, message):
    cfg = get_cfg()
    cfg.merge_from_list([part for pair in settings.items() for part in pair])
    cfg.INPUT.ALBUMENTATIONS = ["HorizontalFlip"]
    with pytest.raises(ValueError, match=message):
        Albumentations.from_config(cfg, None)
    cfg.INPUT.ALBUMENTATIONS = ["Blur"]
    assert not Albumentations.from_config(cfg, None).moves
