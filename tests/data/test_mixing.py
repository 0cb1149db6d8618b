"""Mosaic, mixup and copy-paste, looked at in their images: every object has a color of its own."""

import itertools
from collections import Counter

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from PIL import Image

from d2lite.config import get_cfg
from d2lite.data import (
    DatasetMapper,
    build_detection_train_loader,
    detection_utils,
    transforms as T,
)
from d2lite.data.build import build_batch_data_loader
from d2lite.data.common import DatasetFromList, MapDataset, Others
from d2lite.data.mixing import (
    FILL,
    CopyPaste,
    Mixing,
    MixUp,
    Mosaic,
    Scene,
    mixing_keys,
    without_mixing,
)
from d2lite.data.samplers import TrainingSampler
from d2lite.data.stream import seeded_rng
from d2lite.structures import BoxMode, polygons_to_bitmask
from d2lite.structures.masks import polygon_area

KINDS = ("box", "polygon", "rle")


def color_of(category):
    """Colors of distinct hues, on a black background."""
    return (255, 45 * (category % 6), 60 * (category // 6))


def outline(x, y, width, height):
    """An L, whose mask is three quarters of its box."""
    x1, y1, xm, ym = x + width, y + height, x + width // 2, y + height // 2
    return [float(v) for v in (x, y, xm, y, xm, ym, x1, ym, x1, y1, x, y1)]


def make_dataset(folder, kind, sizes=((60, 80),) * 6, keypoints=False):
    """Images of black background with three objects, categories 0, 1, 2, ... over all images."""
    rng = np.random.default_rng(0)
    categories, dicts = itertools.count(), []
    for number, (height, width) in enumerate(sizes):
        image = np.zeros((height, width, 3), dtype=np.uint8)
        annotations = []
        for third in range(3):
            box_width = 4 * int(rng.integers(2, width // 16 + 1))
            box_height = 4 * int(rng.integers(2, height // 8 + 1))
            x = third * (width // 3) // 2 * 2
            y = 2 * int(rng.integers(0, (height - box_height) // 2))
            category = next(categories)
            polygon = outline(x, y, box_width, box_height)
            if kind == "box":
                image[y : y + box_height, x : x + box_width] = color_of(category)
            mask = polygons_to_bitmask([np.array(polygon)], height, width)
            if kind != "box":
                image[mask] = color_of(category)
            annotation = {
                "bbox": [x, y, box_width, box_height],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": category,
            }
            if kind == "polygon":
                annotation["segmentation"] = [polygon]
            elif kind == "rle":
                annotation["segmentation"] = mask_util.encode(np.asfortranarray(mask))
            if keypoints:  # in two corners, in pixels of the object
                bottom, right = y + box_height - 0.5, x + box_width - 0.5
                annotation["keypoints"] = [x + 0.5, y + 0.5, 2, right, bottom, 2]
            annotations.append(annotation)
        path = str(folder / f"{number}.png")
        Image.fromarray(image[:, :, ::-1]).save(path)
        record = {"file_name": path, "image_id": number, "height": height, "width": width}
        dicts.append({**record, "annotations": annotations})
    return dicts


def make_mapper(kind, mixing, augmentations=(), **options):
    return DatasetMapper(
        is_train=True,
        augmentations=list(augmentations),
        image_format="BGR",
        use_instance_mask=kind != "box",
        instance_mask_format="polygon" if kind == "polygon" else "bitmask",
        mixing=mixing,
        **options,
    )


class Recording:
    """A way to mix, which counts the objects that it was given."""

    def __init__(self, what):
        self.what, self.num_others, self.given = what, what.num_others, Counter()

    def __call__(self, scene, others):
        self.given = Counter(a["category_id"] for s in (scene, *others) for a in s.annotations)
        return self.what(scene, others)


def samples(dicts, kind, what, count=20, **options):
    """Samples that are mixed; "once" are the categories of images that were taken once."""
    recording = Recording(what)
    mapper = make_mapper(kind, Mixing([(recording, 1.0)], 1), **options)
    for seed in range(count):
        with seeded_rng(seed):
            sample = mapper(dicts[seed % len(dicts)], others=Others(dicts, 0))
        sample["once"] = {category for category, n in recording.given.items() if n == 1}
        yield sample


def pixels_of(sample, category):
    """(H, W) bool: more than half of a color, as at the edges of what was resized."""
    image = sample["image"].permute(1, 2, 0).numpy().astype(float)
    part = image[:, :, :1] / 255
    is_hue = np.abs(image - part * color_of(category)).max(axis=2) < 4
    return is_hue & (part[:, :, 0] > 0.5)


def box_around(mask):
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def check_objects(sample, kind, whole_areas, min_visible):
    """Boxes and masks are where the colors are, and objects without an annotation hardly visible.

    Returns the number of objects that were cut.
    """
    instances, cut = sample["instances"], 0
    size = tuple(sample["image"].shape[1:])
    found = instances.gt_classes.tolist()
    for index, category in enumerate(found):
        if category not in sample["once"]:
            continue
        pixels = pixels_of(sample, category)
        assert instances.gt_boxes.tensor[index].tolist() == box_around(pixels)
        if kind == "polygon":
            mask = polygons_to_bitmask(instances.gt_masks.polygons[index], *size)
            assert np.array_equal(mask, pixels)
        elif kind == "rle":
            assert np.array_equal(instances.gt_masks.tensor[index].numpy(), pixels)
        cut += pixels.sum() < whole_areas[category]
    for category, area in whole_areas.items():
        visible = pixels_of(sample, category).sum()
        if visible and category not in found and category in sample["once"]:
            assert visible < min_visible * area
    return cut


def areas(dicts, factor=1.0):
    found = {}
    for record in dicts:
        image = detection_utils.read_image(record["file_name"], "BGR")
        for annotation in record["annotations"]:
            category = annotation["category_id"]
            area = (image == color_of(category)).all(axis=2).sum()
            found[category] = area * factor**2
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_mosaic_has_boxes_and_masks_where_its_colors_are(tmp_path, kind, scale):
    dicts = make_dataset(tmp_path, kind)
    cut, seen = 0, set()
    for sample in samples(dicts, kind, Mosaic((scale, scale), 0.3)):
        assert sample["image"].shape == (3, 60, 80)
        found = sample["instances"].gt_classes.tolist()
        seen.add(len({category // 3 for category in found}))
        cut += check_objects(sample, kind, areas(dicts, scale), 0.3)
    assert max(seen) >= 3
    assert cut > 5


def test_mosaic_of_large_and_small_images_keeps_the_size_of_the_first(tmp_path):
    dicts = make_dataset(tmp_path, "box", sizes=[(60, 80), (120, 160), (240, 320)])
    for sample in samples(dicts[:1], "box", Mosaic((1.0, 1.0), 0.0), 4):
        assert sample["image"].shape == (3, 60, 80)
    mapper = make_mapper("box", Mixing([(Mosaic((1.0, 1.0), 0.0), 1.0)], 1))
    for seed in range(6):
        with seeded_rng(seed):
            sample = mapper(dicts[0], others=Others(dicts, 0))
        boxes = sample["instances"].gt_boxes.tensor
        assert sample["image"].shape == (3, 60, 80) and len(boxes) > 2
        assert (boxes >= 0).all() and (boxes <= torch.tensor([80, 60, 80, 60])).all()


def test_mosaic_is_gray_where_no_image_is(tmp_path):
    dicts = make_dataset(tmp_path, "box")
    sample = next(samples(dicts, "box", Mosaic((0.25, 0.25), 0.3), 1))
    gray = (sample["image"] == FILL).all(dim=0).sum().item()
    assert gray == 60 * 80 - 4 * 15 * 20  # four images of a quarter of each side


@pytest.mark.parametrize("kind", KINDS)
def test_copy_paste_cuts_what_it_covers(tmp_path, kind):
    dicts = make_dataset(tmp_path, kind)
    cut = pasted = 0
    for sample in samples(dicts, kind, CopyPaste((1.0, 1.0), 0.3), 40):
        own = sample["image_id"]
        found = sample["instances"].gt_classes.tolist()
        pasted += any(category // 3 != own for category in found)
        cut += check_objects(sample, kind, areas(dicts), 0.3)
    assert pasted > 20
    assert cut > 5


def scene_of(size, *objects):
    """objects: (category, segmentation or box)."""
    annotations = []
    for category, shape in objects:
        polygon = np.array(shape).reshape(-1, 2)
        box = np.concatenate([polygon.min(axis=0), polygon.max(axis=0)])
        annotation = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category}
        annotations.append({**annotation, "segmentation": [np.array(shape, dtype=float)]})
    return Scene.read(np.zeros((*size, 3), dtype=np.uint8), annotations)


def square(x, y, side):
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def test_a_hole_in_a_polygon_is_kept_as_several_polygons():
    below, above = (
        scene_of((40, 40), (0, square(0, 0, 40))),
        scene_of((40, 40), (1, square(8, 8, 9))),
    )
    merged = CopyPaste((1.0, 1.0), 0.0)(below, [above])
    ring, pasted = merged.annotations
    assert ring["bbox"].tolist() == [0, 0, 40, 40] and pasted["category_id"] == 1
    mask = polygons_to_bitmask(ring["segmentation"], 40, 40)
    expected = np.ones((40, 40), dtype=bool)
    expected[8:17, 8:17] = False
    assert np.array_equal(mask, expected)
    assert len(ring["segmentation"]) == 2


def test_a_ring_that_is_cut_keeps_its_hole():
    """A ring is one polygon with a slit: around outside, in, around inside, and out."""
    outside, inside = [2, 2, 18, 2, 18, 18, 2, 18, 2, 2], [6, 6, 6, 14, 14, 14, 14, 6, 6, 6]
    scene = scene_of((20, 20), (0, [*outside, *inside]))
    expected = np.zeros((20, 20), dtype=bool)
    expected[2:18, 2:18] = True
    expected[6:14, 6:14] = False
    for x, width, height in ((0, 20, 20), (0, 10, 20), (5, 15, 12)):
        [found] = scene.cropped(x, 0, width, height, 0.1).annotations
        mask = polygons_to_bitmask(found["segmentation"], height, width)
        assert np.array_equal(mask, expected[:height, x : x + width])
        assert found["bbox"].tolist() == box_around(expected[:height, x : x + width])


def test_outlines_that_cross_themselves_are_cut_too():
    bow_tie = [2, 2, 10, 10, 10, 2, 2, 10, 2, 6, 1, 6, 2, 6]  # with a line that sticks out
    merged = CopyPaste((1.0, 1.0), 0.0)(
        scene_of((12, 12), (0, bow_tie)), [scene_of((12, 12), (1, square(0, 0, 6)))]
    )
    cut = next(a for a in merged.annotations if a["category_id"] == 0)
    assert cut["bbox"].tolist() == [2, 2, 10, 10]
    left_below, right = 8, 16  # two triangles of 8 x 4 / 2, the upper half of one covered
    area = sum(polygon_area(p[0::2], p[1::2]) for p in cut["segmentation"])
    assert area == pytest.approx(left_below + right)


@pytest.mark.parametrize("min_visible, remains", [(0.5, True), (0.51, False)])
def test_objects_that_mostly_vanish_are_dropped(min_visible, remains):
    below = scene_of((40, 40), (0, square(0, 0, 20)))
    above = scene_of((40, 40), (1, [10, 0, 40, 0, 40, 40, 10, 40]))
    merged = CopyPaste((1.0, 1.0), min_visible)(below, [above])
    assert [a["category_id"] for a in merged.annotations] == ([0, 1] if remains else [1])
    if remains:
        assert merged.annotations[0]["bbox"].tolist() == [0, 0, 10, 20]


def test_a_pasted_box_brings_the_objects_in_it():
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category}
        for category, box in enumerate([[0, 0, 20, 20], [5, 5, 10, 10], [15, 0, 40, 20]])
    ]
    other = Scene.read(image, annotations)
    for seed in range(20):
        with seeded_rng(seed):
            merged = CopyPaste((1.0, 1.0), 0.5)(Scene(image, []), [other])
        boxes = {a["category_id"]: a["bbox"].tolist() for a in merged.annotations}
        if 0 in boxes:
            assert boxes[1] == [5, 5, 10, 10]
        if 2 in boxes and 0 not in boxes:
            assert boxes[2] == [15, 0, 40, 20] and set(boxes) <= {1, 2}


def test_mixup_is_the_mean_of_two_images_with_the_objects_of_both(tmp_path):
    dicts = make_dataset(tmp_path, "polygon")
    images = [detection_utils.read_image(x["file_name"], "BGR").astype(float) for x in dicts]
    mapper = make_mapper("polygon", Mixing([(MixUp(1.5), 1.0)], 1))
    weights = set()
    for seed in range(10):
        with seeded_rng(seed):
            sample = mapper(dicts[0], others=Others(dicts[1:2], 0))
        mixed = sample["image"].permute(1, 2, 0).numpy().astype(float)
        difference, other = mixed - images[1], images[0] - images[1]
        weight = (difference * other).sum() / (other * other).sum()
        expected = weight * images[0] + (1 - weight) * images[1]
        assert np.abs(mixed - expected).max() <= 1  # rounding, and that of the estimated weight
        weights.add(round(weight, 2))
        assert sorted(sample["instances"].gt_classes.tolist()) == [0, 1, 2, 3, 4, 5]
        for index, category in enumerate(sample["instances"].gt_classes.tolist()):
            box = dicts[category // 3]["annotations"][category % 3]["bbox"]
            expected_box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
            assert sample["instances"].gt_boxes.tensor[index].tolist() == expected_box
    assert len(weights) > 5


def test_keypoints_move_with_their_objects(tmp_path):
    dicts = make_dataset(tmp_path, "box", keypoints=True)
    checked = 0
    options = {"use_keypoint": True}
    for sample in samples(dicts, "box", Mosaic((1.0, 1.0), 0.1), **options):
        for category, points in zip(
            sample["instances"].gt_classes, sample["instances"].gt_keypoints.tensor, strict=True
        ):
            for x, y, visibility in points.tolist():
                if visibility:
                    pixel = sample["image"][:, int(y), int(x)]
                    assert tuple(pixel.tolist()) == color_of(category.item())
                    checked += 1
    assert checked > 50


def test_keypoints_below_a_pasted_object_are_not_visible():
    below = scene_of((40, 40), (0, square(0, 0, 40)))
    points = [5.0, 5.0, 2, 30.0, 30.0, 2, 31.0, 30.0, 1]
    below.annotations[0]["keypoints"] = points
    above = scene_of((40, 40), (1, square(20, 20, 20)))
    merged = CopyPaste((1.0, 1.0), 0.0)(below, [above])
    assert merged.annotations[0]["keypoints"][:, 2].tolist() == [2, 1, 1]


# ---- with loaders


def loader_of(dicts, mapper, workers=0):
    return build_batch_data_loader(
        MapDataset(DatasetFromList(dicts), mapper),
        TrainingSampler(len(dicts), seed=4),
        2,
        num_workers=workers,
        aspect_ratio_grouping=True,
    )


def all_kinds(until=1000):
    kinds = [Mosaic((0.5, 1.0), 0.2), MixUp(8.0), CopyPaste((0.5, 1.0), 0.2)]
    return Mixing([(kind, 0.6) for kind in kinds], until)


def digest(batch):
    return [
        (x["file_name"], x["image"].sum().item(), x["instances"].gt_boxes.tensor.tolist())
        for x in batch
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_depend_on_seed_and_position_alone(tmp_path, workers):
    dicts = make_dataset(tmp_path, "rle", sizes=[(60, 80), (80, 60), (100, 90), (50, 120)])
    mapper = make_mapper("rle", all_kinds(), [T.RandomFlip()])
    expected = [digest(batch) for batch in itertools.islice(loader_of(dicts, mapper), 10)]
    assert len({str(batch) for batch in expected}) == 10
    loader = loader_of(dicts, mapper, workers)
    batches = iter(loader)
    assert [digest(batch) for batch in itertools.islice(batches, 4)] == expected[:4]
    position = loader.state_dict()
    batches.close()
    resumed = loader_of(dicts, mapper, workers)
    resumed.load_state_dict(position)
    batches = iter(resumed)
    assert [digest(batch) for batch in itertools.islice(batches, 6)] == expected[4:]
    batches.close()


def test_the_last_iterations_are_those_without_mixing(tmp_path):
    dicts = make_dataset(tmp_path, "polygon")
    mixed = loader_of(dicts, make_mapper("polygon", all_kinds(until=3), [T.RandomFlip()]))
    single = loader_of(dicts, make_mapper("polygon", None, [T.RandomFlip()]))
    pairs = zip(itertools.islice(mixed, 8), single, strict=False)
    equal = [digest(one) == digest(other) for one, other in pairs]
    assert equal[3:] == [True] * 5 and not all(equal[:3])


# ---- with a config


def cfg_for(dicts, **settings):
    cfg = get_cfg()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.MAX_ITER = 10
    cfg.INPUT.MIN_SIZE_TRAIN = (60,)
    cfg.SEED = 1
    for key, value in settings.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def test_a_config_turns_them_on(tmp_path):
    dicts = make_dataset(tmp_path, "box")
    cfg = cfg_for(dicts, INPUT__MIX__MOSAIC_PROB=1.0, INPUT__MIX__UNTIL=0.5)
    loader = build_detection_train_loader(cfg, dataset=dicts)
    counts = [len(set((x["instances"].gt_classes // 3).tolist())) for batch in
              itertools.islice(loader, 10) for x in batch]  # fmt: skip
    assert max(counts[:10]) > 2 and max(counts[10:]) == 1


def test_precise_batchnorm_sees_single_images(tmp_path):
    cfg = cfg_for([], INPUT__MIX__MOSAIC_PROB=1.0, INPUT__MIX__COPY_PASTE_PROB=0.5)
    cfg.freeze()
    assert mixing_keys(without_mixing(cfg)) == []
    assert len(mixing_keys(cfg)) == 2


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return itertools.repeat({})


def own_mapper(record):
    return record


class OwnCall(DatasetMapper):
    def __call__(self, dataset_dict):
        return super().__call__(dataset_dict)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"MOSAIC_PROB": 1.5}, "INPUT.MIX.MOSAIC_PROB is 1.5"),
        ({"MIXUP_PROB": 0.5, "MIXUP_ALPHA": 0.0}, "INPUT.MIX.MIXUP_ALPHA is 0.0"),
        ({"MOSAIC_PROB": 1.0, "MOSAIC_SCALE": (1.0, 0.5)}, "INPUT.MIX.MOSAIC_SCALE"),
        ({"COPY_PASTE_PROB": 1.0, "COPY_PASTE_SCALE": (1.0, 1.5)}, "COPY_PASTE_SCALE.*at most 1"),
        ({"COPY_PASTE_PROB": 1.0, "UNTIL": -0.1}, "INPUT.MIX.UNTIL is -0.1"),
    ],
)
def test_values_that_cannot_be(tmp_path, settings, message):
    dicts = make_dataset(tmp_path, "box", sizes=[(60, 80)])
    cfg = cfg_for(dicts, **{f"INPUT__MIX__{key}": value for key, value in settings.items()})
    with pytest.raises(ValueError, match=message):
        build_detection_train_loader(cfg, dataset=dicts)


@pytest.mark.parametrize("key", ["MOSAIC_PROB", "MIXUP_PROB", "COPY_PASTE_PROB"])
def test_what_cannot_be_mixed_is_an_error_before_training(tmp_path, key):
    dicts = make_dataset(tmp_path, "box", sizes=[(60, 80)])
    on = {f"INPUT__MIX__{key}": 0.5}
    cfg = cfg_for(dicts, **on)
    with pytest.raises(ValueError, match=rf"{key} is on, but the mapper own_mapper"):
        build_detection_train_loader(cfg, dataset=dicts, mapper=own_mapper)
    with pytest.raises(ValueError, match=rf"{key} is on, but OwnCall.__call__ does not take"):
        build_detection_train_loader(cfg, dataset=dicts, mapper=OwnCall(cfg, True))
    rotated = cfg_for(dicts, **on, MODEL__RPN__BBOX_REG_WEIGHTS=(1.0,) * 5)
    with pytest.raises(ValueError, match=rf"rotated boxes.*set INPUT.MIX.{key} 0.0"):
        build_detection_train_loader(rotated, dataset=dicts)
    proposals = cfg_for(dicts, **on, MODEL__LOAD_PROPOSALS=True)
    with pytest.raises(ValueError, match=r"precomputed proposals \(MODEL.LOAD_PROPOSALS"):
        build_detection_train_loader(proposals, dataset=dicts)
    part = {"DATALOADER__SAMPLER_TRAIN": "RandomSubsetTrainingSampler"}
    subset = cfg_for(dicts, **on, **part, DATALOADER__RANDOM_SUBSET_RATIO=0.5)
    with pytest.raises(ValueError, match=r"RANDOM_SUBSET_RATIO is 0.5"):
        build_detection_train_loader(subset, dataset=dicts)
    with pytest.raises(ValueError, match=rf"{key} is on, but the dataset is iterable only"):
        build_detection_train_loader(cfg, dataset=Endless())
    labels = str(tmp_path / "labels.png")
    Image.fromarray(np.zeros((60, 80), dtype=np.uint8)).save(labels)
    with pytest.raises(ValueError, match=r"INPUT.MIX cannot mix label images"):
        build_detection_train_loader(cfg, dataset=[{**dicts[0], "sem_seg_file_name": labels}])


def test_an_image_that_cannot_be_read_replaces_the_sample(tmp_path):
    dicts = make_dataset(tmp_path, "box")
    (tmp_path / "5.png").write_bytes(b"no image")
    cfg = cfg_for(dicts, INPUT__MIX__MOSAIC_PROB=1.0, DATALOADER__ON_BAD_SAMPLE="skip")
    loader = build_detection_train_loader(cfg, dataset=dicts)
    assert len(list(itertools.islice(loader, 8))) == 8
    assert loader.num_skipped > 0
