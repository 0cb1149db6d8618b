"""PointRend's models: a few steps on a few images, old weights, and the semantic augmentation."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from d2lite.data import DatasetCatalog, DatasetMapper, transforms as T
from d2lite.data.dataset_mapper import build_dataset_mapper
from d2lite.layers import ShapeSpec
from d2lite.modeling import build_model
from d2lite.projects.point_rend import ColorAugSSDTransform, PointRendMaskHead
from d2lite.projects.point_rend.roi_heads import PointRendROIHeads
from d2lite.structures import Boxes, Instances
from tests.project_checks import project_config, train_on

CONFIGS = Path(__file__).parents[1] / "configs"


def load_config(name: str, *opts):
    tiny = ["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64]
    return project_config(CONFIGS / name, *tiny, *opts)


@pytest.mark.parametrize(
    "name, losses",
    [
        ("shapes_R_18_FPN.yaml", {"loss_mask", "loss_mask_point"}),
        ("implicit_shapes_R_18_FPN.yaml", {"loss_l2", "loss_mask_point"}),
        ("semantic_shapes_R_18_FPN.yaml", {"loss_sem_seg", "loss_sem_seg_point"}),
    ],
)
def test_losses_fall_and_results_have_the_size_of_the_image(name, losses):
    cfg = load_config(name)
    records = DatasetCatalog.get(cfg.DATASETS.TEST[0])[:2]
    mapper = build_dataset_mapper(cfg, True)
    batch = [mapper(record) for record in records]
    model = build_model(cfg).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    assert losses <= model(batch).keys()
    totals = train_on(model, batch, optimizer, 6)
    assert all(map(math.isfinite, totals)) and totals[-1] < totals[0]

    mapper, record = build_dataset_mapper(cfg, False), records[0]
    with torch.no_grad():
        (result,) = model.eval()([mapper(record)])
    size = record["height"], record["width"]
    if "sem_seg" in result:
        assert result["sem_seg"].shape == (5, *size)
    else:
        assert result["instances"].pred_masks.shape[1:] == size


def mask_head(settings: dict | None = None) -> PointRendMaskHead:
    settings = {"ROI_MASK_HEAD.CONV_DIM": 4, **(settings or {})}
    opts = [x for key, value in settings.items() for x in (f"MODEL.{key}", value)]
    cfg = load_config("shapes_R_18_FPN.yaml", *opts)
    return PointRendMaskHead(cfg, {"p2": ShapeSpec(channels=4, stride=4)})


def test_steps_that_would_predict_every_cell_are_skipped():
    """28 x 28 points fill the grids of 14 and 28 cells, which grow out of 7."""
    head = mask_head({"POINT_HEAD.SUBDIVISION_STEPS": 5})
    assert head.mask_point_subdivision_init_resolution == 28
    assert head.mask_point_subdivision_steps == 3


@pytest.mark.parametrize("on, side", [(True, 56), (False, 7)])
def test_masks_without_and_with_the_point_head(on, side):
    head = mask_head({"ROI_MASK_HEAD.POINT_HEAD_ON": on}).eval()
    features = {"p2": torch.zeros(2, 4, 16, 16)}
    boxes = Boxes(torch.tensor([[0.0, 0.0, 32.0, 32.0]]))
    found = Instances((64, 64), pred_boxes=boxes, pred_classes=torch.tensor([3]))
    with torch.no_grad():
        first, second = head(features, [found, found[:0]])
        none = head(features, [found[:0], found[:0]])
    assert first.pred_masks.shape == (1, 1, side, side) and len(second) == 0
    assert [len(x.pred_masks) for x in none] == [0, 0]


def test_images_without_objects_have_losses_of_zero():
    head = mask_head().train()
    empty = Instances(
        (64, 64), proposal_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0).long()
    )
    losses = head({"p2": torch.zeros(1, 4, 16, 16)}, [empty])
    sum(losses.values()).backward()
    assert {key: x.item() for key, x in losses.items()} == {"loss_mask": 0, "loss_mask_point": 0}
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


def test_weights_of_the_first_releases_load():
    cfg = load_config("shapes_R_18_FPN.yaml", "MODEL.ROI_HEADS.NAME", "PointRendROIHeads")
    shapes = {f"p{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 6)}
    heads = PointRendROIHeads(cfg, shapes)
    now = {name: x.clone() for name, x in heads.state_dict().items()}
    old = {}
    for name, x in now.items():
        name = name.replace("mask_head.point_head.", "mask_point_head.")
        name = name.replace("mask_head.coarse_head.fc", "mask_head.coarse_head.coarse_mask_fc")
        old[name.replace("mask_head.coarse_head.", "mask_coarse_head.")] = x + 1
    assert len(old.keys() - now.keys()) == 16
    heads.load_state_dict(old)
    assert all(torch.equal(x, now[name] + 1) for name, x in heads.state_dict().items())


@pytest.mark.parametrize("format", ["BGR", "RGB"])
def test_colors_change_as_the_seed_says_and_the_order_of_channels_does_not_matter(format):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    given = image if format == "BGR" else image[:, :, ::-1]
    results = []
    for seed in range(12):
        random.seed(seed)
        got = ColorAugSSDTransform(format).apply_image(given)
        assert got.dtype == np.uint8 and got.shape == image.shape
        random.seed(seed)
        again = ColorAugSSDTransform("BGR").apply_image(image)
        assert np.array_equal(got if format == "BGR" else got[:, :, ::-1], again)
        results.append(got.tobytes())
    assert len(set(results)) > 6  # the others drew no change at all
    with pytest.raises(ValueError, match=r"INPUT.FORMAT is 'L'"):
        ColorAugSSDTransform("L")


def test_changes_of_color_by_hand():
    change = ColorAugSSDTransform("BGR")
    assert change.convert(np.array([10, 100, 200], np.uint8), 1.5, 0.9).tolist() == [15, 150, 255]
    random.seed(1)  # randrange(2) gives 0: no change
    image = np.full((1, 1, 3), 7, np.uint8)
    assert random.Random(1).randrange(2) == 0 and change.brightness(image) is image


def test_semantic_augmentation_crops_after_the_resize_and_spares_uniform_crops():
    cfg = load_config(
        "semantic_shapes_R_18_FPN.yaml",
        *("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [32, 48]),
        *("INPUT.CROP.SINGLE_CATEGORY_MAX_AREA", 0.75, "INPUT.COLOR_AUG_SSD", True),
    )
    mapper = build_dataset_mapper(cfg, True)
    assert [type(x) for x in mapper.augmentations.augs if not hasattr(x, "tfm")] == [
        T.ResizeShortestEdge,
        T.RandomCrop_CategoryAreaConstraint,
        T.RandomFlip,
    ]
    mapped = mapper(DatasetCatalog.get("shapes_sem_seg_val")[0])
    assert mapped["image"].shape == (3, 32, 48) and mapped["sem_seg"].shape == (32, 48)
    test = build_dataset_mapper(cfg, False)
    assert type(test) is DatasetMapper and len(test.augmentations.augs) == 1


def test_multiple_features_are_read_in_turn():
    """The coarse and the point head of more than one level see all their channels."""
    cfg = load_config(
        "shapes_R_18_FPN.yaml",
        *("MODEL.POINT_HEAD.IN_FEATURES", ["p2", "p3"]),
        *("MODEL.ROI_MASK_HEAD.IN_FEATURES", ["p3", "p2"], "MODEL.ROI_MASK_HEAD.CONV_DIM", 8),
    )
    shapes = {"p2": ShapeSpec(channels=4, stride=4), "p3": ShapeSpec(channels=4, stride=8)}
    head = PointRendMaskHead(cfg, shapes).eval()
    assert head.point_head.fc_layers[0].in_channels == 8 + 6
    features = {"p2": torch.zeros(1, 4, 16, 16), "p3": torch.zeros(1, 4, 8, 8)}
    found = Instances(
        (64, 64),
        pred_boxes=Boxes(torch.tensor([[0.0, 0.0, 32.0, 32.0]])),
        pred_classes=torch.tensor([0]),
    )
    with torch.no_grad():
        assert head(features, [found])[0].pred_masks.shape == (1, 1, 56, 56)
