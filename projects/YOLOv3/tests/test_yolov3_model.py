"""The whole detector: training, inference, the letterbox around it, and its configs."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.data import DatasetMapper
from d2lite.engine import check_class_counts
from d2lite.modeling import build_model
from d2lite.projects.yolov3 import Darknet, decode, make_grid
from d2lite.structures import Boxes, pairwise_iou
from d2lite.utils.events import EventStorage
from tests import project_checks
from tests.project_checks import check_resumes_exactly, few_images, project_config, train_on

CONFIGS = Path(__file__).parents[1] / "configs"
truth = partial(project_checks.truth, size=(64, 64))


def load_config(name: str = "shapes_yolov3.yaml", *opts):
    return project_config(CONFIGS / name, *opts)


def tiny_config(*opts):
    settings = ["MODEL.YOLOV3.NUM_CLASSES", 6, "MODEL.YOLOV3.IMAGE_SIZE", 64]
    settings += ["MODEL.DARKNET.WIDTH", 0.125, "MODEL.DARKNET.BLOCKS", [1, 1, 1, 1, 1]]
    return load_config("shapes_yolov3.yaml", *settings, *opts)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(tiny_config())


def image_of(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator).byte()


def test_features_of_darknet53_are_the_papers():
    with torch.device("meta"):
        backbone = Darknet(out_features=[f"res{i}" for i in range(1, 6)])
        features = backbone(torch.zeros(1, 3, 256, 256))
    # The output column of table 1.
    sizes = [tuple(x.shape[1:]) for x in features.values()]
    assert sizes == [(64, 128, 128), (128, 64, 64), (256, 32, 32), (512, 16, 16), (1024, 8, 8)]
    assert sum(isinstance(m, torch.nn.Conv2d) for m in backbone.modules()) == 52
    shapes = backbone.output_shape()
    assert [(shape.channels, shape.stride) for shape in shapes.values()] == [
        (size[0], 256 // size[1]) for size in sizes
    ]


def test_freezing_stops_behind_the_stage():
    backbone = Darknet(width=0.25, blocks=(1, 1, 1, 1, 1), freeze_at=2)
    assert not any(p.requires_grad for p in backbone.stem.parameters())
    assert not any(p.requires_grad for p in backbone.stage1.parameters())
    assert all(p.requires_grad for p in backbone.stage2.parameters())
    before = backbone.stem.norm.running_mean.clone()
    backbone.train()(torch.rand(1, 3, 64, 64))
    assert torch.equal(backbone.stem.norm.running_mean, before)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_builds(path):
    cfg = load_config(path.name, "MODEL.DEVICE", "meta")
    if cfg.MODEL.YOLOV3.NUM_CLASSES == -1:
        cfg.MODEL.YOLOV3.NUM_CLASSES = 3
    with torch.device("meta"):
        found = build_model(cfg)
    assert found.anchors.shape == (3, 3, 2)


def test_classes_are_counted_in_the_data():
    cfg = load_config()
    assert cfg.MODEL.YOLOV3.NUM_CLASSES == -1
    check_class_counts(cfg)
    assert cfg.MODEL.YOLOV3.NUM_CLASSES == 6


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MODEL.YOLOV3.IMAGE_SIZE", 100, "MODEL.YOLOV3.IMAGE_SIZE has 100; .* multiples of 32"),
        ("MODEL.YOLOV3.TRAIN_SIZES", [64, 65], "MODEL.YOLOV3.TRAIN_SIZES has 65"),
        ("MODEL.YOLOV3.ANCHORS", [[1, 2]] * 4, "MODEL.YOLOV3.ANCHORS has 4 anchors"),
        ("MODEL.YOLOV3.ANCHORS", [[1, 2, 3]] * 3, "MODEL.YOLOV3.ANCHORS is .* give .width"),
        ("MODEL.YOLOV3.IN_FEATURES", ["res3", "res6"], "MODEL.YOLOV3.IN_FEATURES asks .* 'res6'"),
        ("MODEL.YOLOV3.IN_FEATURES", ["res3", "res5"], "MODEL.YOLOV3.IN_FEATURES have strides"),
        ("MODEL.DARKNET.WIDTH", 0.0, "MODEL.DARKNET.WIDTH is 0.0"),
        ("MODEL.DARKNET.BLOCKS", [1, 2], "MODEL.DARKNET.BLOCKS is .* five"),
        ("MODEL.DARKNET.OUT_FEATURES", ["res7"], "MODEL.DARKNET.OUT_FEATURES has 'res7'"),
    ],
)
def test_wrong_settings_name_their_key(key, value, message):
    with pytest.raises(ValueError, match=message):
        build_model(tiny_config(key, value))


def test_class_beyond_the_models_is_told(model):
    with pytest.raises(ValueError, match=r"class 6, .* 0 to 5; set MODEL\.YOLOV3\.NUM_CLASSES"):
        model.train()([{"image": image_of(64, 64), "instances": truth([[1, 1, 30, 30]], [6])}])


@pytest.mark.parametrize("boxes", [[], [[5, 5, 40, 30], [5, 5, 40, 31], [60, 60, 64, 64]]])
def test_gradients_are_finite_with_and_without_objects(model, boxes):
    model.train().zero_grad()
    gt = truth(boxes, [1] * len(boxes))
    losses = model([{"image": image_of(64, 64, i), "instances": gt} for i in range(2)])
    sum(losses.values()).backward()
    assert set(losses) == {"loss_xy", "loss_wh", "loss_obj", "loss_cls"}
    assert all(p.grad is not None for p in model.parameters())  # DDP needs all
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert (losses["loss_xy"] > 0) == (len(boxes) > 0)


def test_losses_are_those_of_each_image(model):
    """Without batch statistics, the loss of a batch is the mean of its images' losses."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    batch = [
        {"image": image_of(64, 64, 1), "instances": truth([[5, 5, 40, 30]], [1])},
        {"image": image_of(64, 64, 2), "instances": truth([], [])},
        {"image": image_of(64, 64, 3), "instances": truth([[1, 1, 9, 9], [20, 9, 60, 60]], [3, 0])},
    ]
    together = model(batch)
    alone = [model([x]) for x in batch]
    for name, loss in together.items():
        expected = sum(losses[name] for losses in alone) / 3
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_predictions_near_an_object_are_not_told_to_have_none(model):
    """All decode to their anchors; a loop says which of them overlap an object too much."""
    sizes = [(8, 8), (4, 4), (2, 2)]
    grid = make_grid(sizes, model.strides, model.anchors)
    predictions = torch.zeros(1, len(grid.cells), 11)
    gt = torch.tensor([[10.0, 10, 30, 32]])
    ignored = model._ignored(predictions, grid, [gt])[0]
    for index, box in enumerate(decode(predictions[0, :, :4], grid).tolist()):
        iou = float(pairwise_iou(Boxes([box]), Boxes(gt)))
        assert bool(ignored[index]) == (iou > 0.5)
    assert 0 < ignored.sum() < len(ignored)


def test_ground_truth_follows_the_letterbox(model):
    """An image that is put into the square by the model, and the same put there by hand."""
    model.train()
    wide = image_of(32, 64)
    square = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    square[:, 16:48] = wide
    by_model = model([{"image": wide, "instances": truth([[5, 3, 40, 30]], [1], size=(32, 64))}])
    by_hand = model([{"image": square, "instances": truth([[5, 19, 40, 46]], [1])}])
    for name, loss in by_hand.items():
        torch.testing.assert_close(by_model[name], loss)


def perfect_outputs(model, boxes, classes):
    """Predictions of the square of 64 pixels that mean these boxes, and nothing else."""
    grid = make_grid([(8, 8), (4, 4), (2, 2)], model.strides, model.anchors)
    predictions = torch.full((len(grid.cells), 11), -20.0)
    for box, label in zip(boxes, classes, strict=True):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        index = 3 * (8 * int(y // 8) + int(x // 8))  # the first anchor of the finest level
        offset = torch.tensor([x / 8 % 1, y / 8 % 1])
        size = torch.tensor([box[2] - box[0], box[3] - box[1]])
        predictions[index, :2] = offset.logit()
        predictions[index, 2:4] = (size / model.anchors[0, 0]).log()
        predictions[index, [4, 5 + label]] = 20.0
    return predictions, grid


def test_detections_leave_the_letterbox(model):
    """Boxes of a 100 x 200 image lie at 0.32 of their place, 16 pixels lower, in the square."""
    boxes = torch.tensor([[20.0, 10, 110, 90], [120.0, 30, 190, 60]])
    in_square = boxes * 0.32 + torch.tensor([0.0, 16, 0, 16])
    predictions, grid = perfect_outputs(model, in_square, [2, 5])
    found = model.inference_single_image(predictions, grid, (100, 200), 64)
    assert found.image_size == (100, 200)
    order = found.pred_classes.argsort()
    assert found.pred_classes[order].tolist() == [2, 5]
    torch.testing.assert_close(found.pred_boxes.tensor[order], boxes, rtol=1e-3, atol=0.05)
    assert (found.scores > 0.99).all()


def test_overlapping_detections_of_a_class_are_dropped(model):
    boxes = torch.tensor([[10.0, 10, 31, 30], [10.0, 10, 32.2, 30], [10.0, 40, 30, 60]])
    predictions, grid = perfect_outputs(model, boxes, [2, 2, 2])
    assert len(model.inference_single_image(predictions, grid, (64, 64), 64)) == 2
    predictions, grid = perfect_outputs(model, boxes, [2, 3, 2])
    assert len(model.inference_single_image(predictions, grid, (64, 64), 64)) == 3


@torch.no_grad()
def test_detections_are_the_same_in_the_square_and_out_of_it(model):
    """The image in its own size, as the stock loader gives it, and in a square made by hand."""
    model.eval()
    wide = image_of(32, 64)
    square = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    square[:, 16:48] = wide
    found = model([{"image": wide, "height": 320, "width": 640}])[0]["instances"]
    expected = model([{"image": square}])[0]["instances"]
    assert found.image_size == (320, 640) and len(found) > 20
    moved = (expected.pred_boxes.tensor - torch.tensor([0.0, 16, 0, 16])) * 10
    kept = Boxes(moved)
    kept.clip((320, 640))
    kept_rows = kept.nonempty()
    torch.testing.assert_close(found.pred_boxes.tensor, kept.tensor[kept_rows])
    torch.testing.assert_close(found.scores, expected.scores[kept_rows])


@torch.no_grad()
def test_stock_loader_gives_images_that_just_fit(model, tmp_path):
    Image.fromarray(np.zeros((30, 60, 3), np.uint8)).save(tmp_path / "a.png")
    record = {"file_name": str(tmp_path / "a.png"), "height": 30, "width": 60, "annotations": []}
    test = DatasetMapper(tiny_config(), is_train=False)(record)
    assert test["image"].shape == (3, 32, 64)
    assert model.eval()([test])[0]["instances"].image_size == (30, 60)
    train = DatasetMapper(tiny_config("MODEL.YOLOV3.TRAIN_SIZES", [64, 96]))(record)
    assert train["image"].shape == (3, 96, 96)
    large = model([{"image": image_of(90, 200)}])[0]["instances"]  # straight to the model
    assert large.image_size == (90, 200)


def test_training_changes_the_size_every_period():
    model = build_model(tiny_config("MODEL.YOLOV3.TRAIN_SIZES", [32, 64, 96])).train()
    sides = []
    for iteration in range(200):
        with EventStorage(iteration):
            sides.append(model._training_side())
    assert set(sides) == {32, 64, 96}
    assert all(len(set(sides[i : i + 10])) == 1 for i in range(0, 200, 10))
    seen = []
    handle = model.backbone.register_forward_hook(lambda m, x, y: seen.append(x[0].shape[-1]))
    gt = truth([[10, 10, 80, 60]], [1], size=(96, 96))
    with EventStorage(sides.index(32)):
        losses = model([{"image": image_of(96, 96), "instances": gt}] * 2)
    handle.remove()
    assert seen == [32] and all(torch.isfinite(x) for x in losses.values())


@pytest.fixture(scope="module")
def tiny_set():
    with few_images("shapes_val") as name:
        yield name


def tiny_run(output_dir, data, *opts):
    return tiny_config(
        *("MODEL.YOLOV3.TRAIN_SIZES", [64, 96], "MODEL.YOLOV3.TRAIN_SIZE_PERIOD", 2),
        *("DATASETS.TRAIN", (data,), "DATASETS.TEST", (data,), "DATALOADER.NUM_WORKERS", 0),
        *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 6, "SOLVER.WARMUP_ITERS", 0),
        *("SOLVER.CHECKPOINT_PERIOD", 3, "TEST.DRAW_IMAGES", 1, "OUTPUT_DIR", str(output_dir)),
        *opts,
    )


def test_training_evaluates_draws_and_resumes_exactly(tmp_path, tiny_set):
    results = check_resumes_exactly(tmp_path, lambda folder: tiny_run(folder, tiny_set))
    assert set(results) == {"bbox"}


def test_training_lowers_the_loss():
    """The same image again and again."""
    torch.manual_seed(1)
    model = build_model(tiny_config()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    batch = [{"image": image_of(64, 64), "instances": truth([[5, 5, 25, 24]], [4])}] * 2
    totals = train_on(model, batch, optimizer, 20)
    assert sum(totals[-3:]) < 0.5 * sum(totals[:3])
