"""Panoptic-DeepLab: targets and grouping by hand, there and back, and a model that learns."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.evaluation import COCOEvaluator, COCOPanopticEvaluator
from d2lite.modeling import build_model
from d2lite.projects.panoptic_deeplab import (
    PanopticDeeplabDatasetMapper,
    PanopticDeepLabTargetGenerator,
    find_instance_center,
    get_panoptic_segmentation,
    group_pixels,
    merge_semantic_and_instance,
)
from tests.project_checks import project_config, train_on

PROJECT = Path(__file__).parents[1]
SMALL = PROJECT / "configs/shapes_panoptic_deeplab.yaml"
DATASET = "shapes_panoptic_standard_val"


def load_config(*opts):
    return project_config(SMALL, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 10, *opts)


@pytest.fixture(scope="module")
def records():
    return DatasetCatalog.get(DATASET)[:6]


@pytest.fixture(scope="module")
def train_net():
    spec = importlib.util.spec_from_file_location("panoptic_train_net", PROJECT / "train_net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Things are 0 and 1, stuff is 2. Segment 9 is not described: its pixels are ignored.
SEGMENTS = np.array(
    [
        [1, 1, 1, 5, 5, 9],
        [1, 1, 1, 5, 5, 9],
        [1, 1, 1, 7, 7, 7],
    ]
)
INFO = [
    {"id": 1, "category_id": 0, "iscrowd": 0},
    {"id": 5, "category_id": 2, "iscrowd": 0},
    {"id": 7, "category_id": 1, "iscrowd": 1},
    {"id": 8, "category_id": 1, "iscrowd": 0},  # cropped away
]


def targets(**kwargs):
    return PanopticDeepLabTargetGenerator(255, [0, 1], sigma=1, **kwargs)(SEGMENTS, INFO)


def test_targets_worked_by_hand():
    got = targets()
    assert got["sem_seg"].tolist() == [
        [0, 0, 0, 2, 2, 255],
        [0, 0, 0, 2, 2, 255],
        [0, 0, 0, 1, 1, 1],
    ]
    assert got["center_points"] == [[1.0, 1.0], [2.0, 4.0]]
    center = got["center"]
    assert center[1, 1] == center[2, 4] == 1
    assert center[1, 2].item() == pytest.approx(math.exp(-1 / 2))
    assert center[0, 0].item() == pytest.approx(math.exp(-2 / 2))
    assert center[2, 3].item() == pytest.approx(math.exp(-1 / 2))  # the nearer peak counts
    described = torch.tensor(SEGMENTS != 9)
    crowd = torch.tensor(SEGMENTS == 7)
    for name in ("center_weights", "offset_weights"):
        assert got[name].shape == (1, 3, 6)
        assert torch.equal(got[name][0] == 1, described & ~crowd)
    assert got["offset"][:, 0, 0].tolist() == [1, 1]
    assert got["offset"][:, 2, 1].tolist() == [-1, 0]
    assert got["offset"][:, 0, 3].tolist() == [0, 0]  # stuff
    assert (got["sem_seg_weights"] == 1).all()
    kinds = {name: x.dtype for name, x in got.items() if isinstance(x, torch.Tensor)}
    assert kinds.pop("sem_seg") == torch.int64
    assert set(kinds.values()) == {torch.float32}


def test_target_options():
    got = targets(
        ignore_stuff_in_offset=True,
        small_instance_area=5,
        small_instance_weight=3,
        ignore_crowd_in_semantic=True,
    )
    assert torch.equal(got["offset_weights"][0] == 1, torch.tensor(SEGMENTS == 1))
    assert torch.equal(got["sem_seg_weights"] == 3, torch.tensor(SEGMENTS == 7))
    assert (got["sem_seg"][torch.tensor(SEGMENTS == 7)] == 255).all()


def heatmap(**values: float) -> torch.Tensor:
    """A (1, 8, 8) map with values at "yx"."""
    center = torch.zeros(1, 8, 8)
    for place, value in values.items():
        center[0, int(place[1]), int(place[2])] = value
    return center


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"threshold": 0.1}, [[1, 1], [1, 6], [6, 6]]),
        ({"threshold": 0.3}, [[1, 1], [6, 6]]),
        ({"threshold": 0.1, "nms_kernel": 11}, [[1, 1]]),
        ({"threshold": 0.1, "top_k": 3}, [[1, 1], [6, 6]]),  # above the third largest
        ({"threshold": 0.1, "top_k": 200}, [[1, 1], [1, 6], [6, 6]]),  # more than pixels
        ({"threshold": 0.95}, []),
    ],
)
def test_centers_are_maxima_above_the_threshold(options, expected):
    center = heatmap(p11=0.9, p12=0.8, p16=0.2, p66=0.5, p33=0.05)
    before = center.clone()
    assert find_instance_center(center, **options).tolist() == expected
    assert torch.equal(center, before)


def test_pixels_go_to_the_center_that_their_offset_points_to(monkeypatch):
    offsets = torch.zeros(2, 1, 6)
    centers = torch.tensor([[0, 0], [0, 5]])
    assert group_pixels(centers, offsets).tolist() == [[[1, 1, 1, 2, 2, 2]]]
    offsets[1, 0, 0] = 5.0
    assert group_pixels(centers, offsets).tolist() == [[[2, 1, 1, 2, 2, 2]]]
    module = importlib.import_module("d2lite.projects.panoptic_deeplab.post_processing")
    monkeypatch.setattr(module, "PIXELS_AT_A_TIME", 4)
    assert group_pixels(centers, offsets).tolist() == [[[2, 1, 1, 2, 2, 2]]]


def test_merging_worked_by_hand():
    """Things are 0 and 1; the second instance has a pixel of another class."""
    sem_seg = torch.tensor([[[1, 1, 1, 0, 0, 3, 3, 4]]])
    instances = torch.tensor([[[1, 2, 2, 2, 3, 3, 0, 0]]])
    things = (sem_seg < 2).long()
    got = merge_semantic_and_instance(sem_seg, instances, things, 10, [0, 1], 1, -1)
    assert got.tolist() == [[[11, 12, 12, 12, 1, -1, 30, 40]]]
    got = merge_semantic_and_instance(sem_seg, instances, things, 10, [0, 1], 2, -1)
    assert got.tolist() == [[[11, 12, 12, 12, 1, -1, -1, -1]]]


def test_image_without_centers_has_only_stuff():
    sem_seg = torch.tensor([[[0, 1, 1, 1]]])
    got, centers = get_panoptic_segmentation(
        sem_seg, torch.zeros(1, 1, 4), torch.zeros(2, 1, 4), [0], 10, 2, -1
    )
    assert got.tolist() == [[[-1, 10, 10, 10]]]
    assert centers.shape == (1, 0, 2)


def test_foreground_mask_decides_what_things_are():
    sem_seg = torch.tensor([[[0, 1, 1, 0]]])
    center = torch.tensor([[[0.0, 1, 0, 0]]])
    got, _ = get_panoptic_segmentation(
        sem_seg,
        center,
        torch.zeros(2, 1, 4),
        thing_ids=[1],
        label_divisor=10,
        stuff_area=1,
        void_label=-1,
        foreground_mask=torch.tensor([[[0, 1, 0, 0]]]),
    )
    assert got.tolist() == [[[0, 11, -1, 0]]]


def test_wrong_shapes_are_named():
    image = torch.zeros(1, 4, 4)
    with pytest.raises(ValueError, match=r"offsets has shape \(1, 4, 4\), expected \(2, H, W\)"):
        get_panoptic_segmentation(image.long(), image, image, [0], 10, 1, -1)


@pytest.mark.parametrize("index", [0, 3, 5])
def test_perfect_predictions_give_the_segments_back(records, index):
    """Targets of a picture, grouped: every segment of the ground truth is found again."""
    record = records[index]
    same_size = [min(record["height"], record["width"])]
    cfg = load_config("INPUT.CROP.ENABLED", False, "INPUT.MIN_SIZE_TRAIN", same_size)
    cfg.INPUT.MAX_SIZE_TRAIN = 1000
    mapped = PanopticDeeplabDatasetMapper(cfg)(record)
    metadata = MetadataCatalog.get(DATASET)
    got, centers = get_panoptic_segmentation(
        mapped["sem_seg"][None],
        mapped["center"][None],
        mapped["offset"],
        list(metadata.thing_dataset_id_to_contiguous_id.values()),
        metadata.label_divisor,
        stuff_area=1,
        void_label=-1,
    )
    assert mapped["image"].shape[1:] == got.shape[1:]
    things = [s for s in record["segments_info"] if s["isthing"]]
    assert centers.shape[1] == len(things)
    areas = sorted(s["area"] for s in record["segments_info"])
    _, counts = got.unique(return_counts=True)
    assert sorted(counts.tolist()) == areas


def test_dataset_dicts_without_segments_are_an_error():
    with pytest.raises(ValueError, match=r"has no \['pan_seg_file_name', 'segments_info'\]"):
        PanopticDeeplabDatasetMapper(load_config())({"file_name": "shapes://val/0"})


def test_mapping_leaves_the_record_alone(records):
    record = records[0]
    before = str(record)
    mapped = PanopticDeeplabDatasetMapper(load_config())(record)
    assert str(record) == before
    assert mapped["image"].shape == (3, 96, 96) and "pan_seg_file_name" not in mapped


def small_model(*opts):
    torch.manual_seed(0)
    return build_model(load_config("INPUT.CROP.SIZE", [64, 64], *opts))


HEADS = {
    "separable": [],
    "plain": [
        *("MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV", False),
        *("MODEL.PANOPTIC_DEEPLAB.USE_DEPTHWISE_SEPARABLE_CONV", False),
        *("MODEL.SEM_SEG_HEAD.LOSS_TYPE", "hard_pixel_mining"),
    ],
}


@pytest.mark.parametrize("opts", HEADS.values(), ids=HEADS)
def test_losses_fall_and_every_parameter_learns(records, opts):
    model = small_model(*opts).train()
    mapper = PanopticDeeplabDatasetMapper(load_config("INPUT.CROP.SIZE", [64, 64]))
    np.random.seed(0)
    batch = [mapper(record) for record in records[:2]]
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    assert list(model(batch)) == ["loss_sem_seg", "loss_center", "loss_offset"]
    totals = train_on(model, batch, optimizer, 4)
    assert all(map(math.isfinite, totals)) and totals[-1] < totals[0]
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    batch[1]["sem_seg"][0, 0] = model.sem_seg_head.num_classes
    with pytest.raises(ValueError, match=r"SEM_SEG_HEAD.NUM_CLASSES to the number of classes"):
        model(batch)


def test_losses_by_hand():
    head = small_model().ins_embed_head
    assert (head.center_loss_weight, head.offset_loss_weight, head.common_stride) == (200, 0.01, 4)
    weights = torch.zeros(2, 1, 8, 8)
    weights[0, :, :, :4] = 1
    (loss,) = head.center_losses(
        torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, 1, 8, 8), weights
    ).values()
    assert loss.item() == pytest.approx(200 * 0.25)
    offset = torch.tensor([0.5, 1.0]).view(1, 2, 1, 1).expand(2, 2, 2, 2)  # in strides
    (loss,) = head.offset_losses(offset, torch.zeros(2, 2, 8, 8), weights).values()
    assert loss.item() == pytest.approx(0.01 * (2 + 4))
    (loss,) = head.offset_losses(offset, torch.zeros(2, 2, 8, 8), 0 * weights).values()
    assert loss.item() == 0


@torch.no_grad()
def test_instances_are_the_things_of_the_segments():
    model = small_model("MODEL.PANOPTIC_DEEPLAB.STUFF_AREA", 1).eval()
    sem_seg = torch.zeros(10, 6, 8)
    sem_seg[7] = 2.0
    sem_seg[3, 1:4, 2:5] = 9.0  # one thing of class 3, of 3 x 3 pixels
    center = torch.zeros(1, 6, 8)
    center[0, 2, 3] = 0.8
    result = model._result(sem_seg, center, torch.zeros(2, 6, 8))
    ids, info = result["panoptic_seg"]
    assert info is None
    assert ids.unique().tolist() == [3001, 7000]
    found = result["instances"]
    assert found.pred_classes.tolist() == [3]
    assert found.pred_boxes.tensor.tolist() == [[2, 1, 5, 4]]
    assert torch.equal(found.pred_masks[0], ids == 3001)
    probability = sem_seg.softmax(0)[3, 2, 3].item()
    assert found.scores.item() == pytest.approx(0.8 * probability)
    model.predict_instances = False
    assert "instances" not in model._result(sem_seg, center, torch.zeros(2, 6, 8))
    model.predict_instances = True
    assert "instances" not in model._result(sem_seg, 0 * center, torch.zeros(2, 6, 8))


@torch.no_grad()
def test_results_have_the_size_that_is_wanted():
    model = small_model().eval()
    inputs = [{"image": torch.rand(3, 64, 64) * 255, "height": 40, "width": 50}]
    inputs.append({"image": torch.rand(3, 64, 80) * 255})
    for result, size in zip(model(inputs), [(40, 50), (64, 80)], strict=True):
        assert result["sem_seg"].shape == (10, *size)
        assert result["panoptic_seg"][0].shape == size
    model.benchmark_network_speed = True
    assert model(inputs) == []


def test_images_are_padded_to_the_wanted_multiple():
    model = small_model("MODEL.PANOPTIC_DEEPLAB.SIZE_DIVISIBILITY", 64).eval()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    model([{"image": torch.rand(3, 50, 70) * 255}])
    assert seen == [(1, 3, 64, 128)]


def test_separable_convolutions_are_one_choice():
    with pytest.raises(ValueError, match="USE_DEPTHWISE_SEPARABLE_CONV True; they must be equal"):
        small_model("MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV", False)


@pytest.mark.parametrize("name, kind", [("ADAM", torch.optim.Adam), ("SGD", torch.optim.SGD)])
def test_optimizer_is_the_one_that_is_named(train_net, name, kind):
    cfg = load_config("SOLVER.OPTIMIZER", name, "SOLVER.WEIGHT_DECAY", 0.5)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    optimizer = train_net.Trainer.build_optimizer(cfg, model)
    assert type(optimizer) is kind
    assert sorted(group["weight_decay"] for group in optimizer.param_groups) == [0.0, 0.5]
    assert {group["lr"] for group in optimizer.param_groups} == {cfg.SOLVER.BASE_LR}


def test_other_optimizers_and_datasets_are_errors(train_net):
    model = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match=r"SOLVER\.OPTIMIZER is 'ADAMW'; use 'ADAM' or 'SGD'"):
        train_net.Trainer.build_optimizer(load_config("SOLVER.OPTIMIZER", "ADAMW"), model)
    with pytest.raises(ValueError, match=r"'shapes_val': evaluator_type .* is 'coco'"):
        train_net.Trainer.build_evaluator(load_config(), "shapes_val")


def test_instances_are_evaluated_on_the_dataset_of_things(train_net, tmp_path):
    cfg = load_config("OUTPUT_DIR", str(tmp_path))
    evaluator = train_net.Trainer.build_evaluator(cfg, DATASET)
    kinds = [type(x) for x in evaluator._evaluators]
    assert kinds == [COCOPanopticEvaluator, COCOEvaluator]
