"""The YOLOF model: its head, losses and detections; training, resuming and evaluation; configs."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.engine import check_class_counts
from d2lite.layers import sigmoid_focal_loss
from d2lite.modeling import build_model
from d2lite.projects.yolof import Decoder, DilatedEncoder
from d2lite.projects.yolof.head import logit_of_product
from tests.project_checks import (
    batch,
    check_detections,
    check_every_weight_learns,
    check_resumes_exactly,
    few_images,
    project_config,
    train_on,
    truth,
)

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = "shapes_R_18.yaml"
NARROW = [
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 8),
    *("MODEL.YOLOF.ENCODER.NUM_CHANNELS", 16, "MODEL.YOLOF.ENCODER.BLOCK_MID_CHANNELS", 8),
]


def load_config(name: str, *opts):
    return project_config(CONFIGS / name, *opts)


def small_model(*opts) -> nn.Module:
    torch.manual_seed(0)
    return build_model(load_config(SMALL, *NARROW, "MODEL.YOLOF.DECODER.NUM_CLASSES", 3, *opts))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_says_what_the_model_is(path):
    cfg = load_config(path.name, "MODEL.YOLOF.DECODER.NUM_CLASSES", 3, "MODEL.DEVICE", "meta")
    assert list(cfg.PROJECTS) == ["yolof"] and cfg.MODEL.META_ARCHITECTURE == "YOLOF"
    with torch.device("meta"):
        model = build_model(cfg)
    assert model.decoder.num_anchors == len(cfg.MODEL.ANCHOR_GENERATOR.SIZES[0])
    stride = model.backbone.output_shape()[cfg.MODEL.YOLOF.IN_FEATURE].stride
    assert stride == (32 if "_C5" in path.stem or "Base" in path.stem else 16)


def test_number_of_classes_comes_from_the_data():
    cfg = load_config(SMALL)
    assert cfg.MODEL.YOLOF.DECODER.NUM_CLASSES == -1
    check_class_counts(cfg)
    assert cfg.MODEL.YOLOF.DECODER.NUM_CLASSES == 6


def test_head_keeps_the_size_and_predicts_for_each_anchor():
    encoder = DilatedEncoder(in_channels=12, out_channels=8, block_mid_channels=4).eval()
    decoder = Decoder(in_channels=8, num_classes=7, num_anchors=5).eval()
    feature = encoder(torch.randn(2, 12, 6, 9))
    assert feature.shape == (2, 8, 6, 9)
    logits, deltas = decoder(feature)
    assert logits.shape == (2, 35, 6, 9) and deltas.shape == (2, 20, 6, 9)


def test_parameters_have_the_names_of_the_released_weights():
    names = {name for name, _ in small_model().named_parameters()}
    assert not [name for name in names if not name.startswith(("backbone", "encoder", "decoder"))]
    expected = ["encoder.lateral_conv.weight", "encoder.lateral_conv.bias"]
    expected += ["encoder.lateral_norm.weight", "encoder.fpn_conv.weight", "encoder.fpn_norm.bias"]
    for i in range(4):
        for conv in ("conv1", "conv2", "conv3"):
            block = f"encoder.dilated_encoder_blocks.{i}.{conv}"
            expected += [f"{block}.0.weight", f"{block}.0.bias", f"{block}.1.weight"]
    expected += ["decoder.cls_subnet.0.weight", "decoder.cls_subnet.4.weight"]
    expected += ["decoder.bbox_subnet.3.bias", "decoder.cls_score.weight"]
    expected += ["decoder.bbox_pred.bias", "decoder.object_pred.weight"]
    assert set(expected) <= names


def test_objectness_multiplies_the_scores():
    a, b = torch.randn(50) * 4, torch.randn(50) * 4
    torch.testing.assert_close(logit_of_product(a, b).sigmoid(), a.sigmoid() * b.sigmoid())
    a, b = torch.tensor([90.0, -90, 90, -90]), torch.tensor([90.0, 90, -90, -90])
    expected = torch.tensor([90.0, -90, -90, -180])
    torch.testing.assert_close(logit_of_product(a, b), expected, rtol=0, atol=1)


def test_losses_equal_a_dense_computation():
    """One-hot focal loss over all anchors; GIoU loss of pairs, both by torchvision."""
    from torchvision.ops import generalized_box_iou

    model = small_model().train()
    images = batch(truth([[8, 8, 40, 40], [30, 20, 70, 60]], [1, 2]), truth([[3, 4, 20, 30]], [0]))
    targets = [x["instances"] for x in images]
    with torch.no_grad():
        features = [model.backbone(model.preprocess_image(images).tensor)["res4"]]
        predictions = model.predict(features)
        losses = model.forward_training(None, features, predictions, targets)
        (anchors,) = model.anchor_generator(features)
        (logits,), (deltas,) = model._transpose_dense_predictions(predictions, [3, 4])
        total_cls = total_box = 0.0
        foreground = 0
        for i, gt in enumerate(targets):
            boxes = model.box2box_transform.apply_deltas(deltas[i], anchors.tensor)
            match = model._match(anchors.tensor, boxes, gt)
            one_hot = torch.zeros(len(boxes), 3)
            for r in (match.label == 1).nonzero()[:, 0].tolist():
                one_hot[r, gt.gt_classes[match.gt_index[r]]] = 1
            counted = match.label >= 0
            total_cls += sigmoid_focal_loss(
                logits[i][counted], one_hot[counted], 0.25, 2.0, reduction="sum"
            )
            for r, m in zip(match.pair_anchor, match.pair_gt, strict=True):
                total_box += (
                    1 - generalized_box_iou(boxes[r : r + 1], gt.gt_boxes.tensor[m : m + 1]).item()
                )
            foreground += int((match.label == 1).sum())
    assert foreground >= 8
    torch.testing.assert_close(losses["loss_cls"], total_cls / foreground, rtol=1e-4, atol=1e-5)
    assert losses["loss_box_reg"].item() == pytest.approx(total_box / foreground, rel=1e-4)


def test_every_parameter_learns_and_the_loss_falls():
    model = small_model().train()
    images = batch(truth([[8, 8, 40, 40]], [1]), truth([[30, 20, 70, 60]], [2]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    totals = train_on(model, images, optimizer, 3)
    assert totals[0] > totals[1] > totals[2]
    check_every_weight_learns(model)


def test_images_without_objects_have_finite_losses():
    model = small_model().train()
    losses = model(batch(truth([], []), truth([], [])))
    assert losses["loss_box_reg"] == 0 and losses["loss_cls"] > 0
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    mixed = model(batch(truth([], []), truth([[8, 8, 40, 40]], [1])))
    assert all(torch.isfinite(loss) and loss > 0 for loss in mixed.values())


@torch.no_grad()
def test_detections_are_well_formed():
    model = small_model("MODEL.YOLOF.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 7).eval()
    image = batch(truth([], [], size=(50, 70)))[0]["image"]
    (found,) = model([{"image": image, "height": 100, "width": 140}])
    found = found["instances"]
    check_detections(found, (100, 140), most=7)
    assert set(found.pred_classes.tolist()) <= {0, 1, 2}


@torch.no_grad()
def test_copies_use_their_own_weights():
    """The stand-in for a head belongs to the copy, not to the model it was made from."""
    model = small_model("MODEL.YOLOF.SCORE_THRESH_TEST", 0.0).eval()
    twin = copy.deepcopy(model)
    images = [{"image": batch(truth([], []))[0]["image"]}]
    before = twin(images)[0]["instances"].scores
    model.decoder.cls_score.bias.fill_(5.0)
    torch.testing.assert_close(twin(images)[0]["instances"].scores, before)
    assert model(images)[0]["instances"].scores.max() > before.max()


def test_checkpoints_of_the_authors_layout_fit(tmp_path):
    """detectron2 keeps the weights under "model"; pixel statistics and anchors come along."""
    model, other = small_model(), small_model()
    nn.init.normal_(model.decoder.object_pred.weight)
    weights = dict(model.state_dict(), pixel_mean=torch.zeros(3, 1, 1))
    weights["anchor_generator.cell_anchors.0"] = torch.zeros(5, 4)
    torch.save({"model": weights}, tmp_path / "model_final.pth")
    found = DetectionCheckpointer(other).load(str(tmp_path / "model_final.pth"))
    torch.testing.assert_close(other.decoder.object_pred.weight, model.decoder.object_pred.weight)
    assert "__unmatched__" not in found


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MODEL.YOLOF.IN_FEATURE", "res6", r"MODEL\.YOLOF\.IN_FEATURE asks for feature 'res6'"),
        ("MODEL.YOLOF.MATCHER.TOPK", 0, r"MODEL\.YOLOF\.MATCHER\.TOPK is 0"),
        ("MODEL.YOLOF.CTR_CLAMP", 0.0, r"MODEL\.YOLOF\.CTR_CLAMP is 0"),
        ("MODEL.YOLOF.ENCODER.BLOCK_DILATIONS", [2, 0], r"BLOCK_DILATIONS .*got \[2, 0\]"),
        ("MODEL.YOLOF.DECODER.PRIOR_PROB", 1.0, r"DECODER\.PRIOR_PROB is 1"),
    ],
)
def test_wrong_settings_name_their_key(key, value, message):
    with pytest.raises(ValueError, match=message):
        small_model(key, value)


@pytest.fixture(scope="module")
def tiny_set():
    with few_images("shapes_val") as name:
        yield name


def tiny_run(output_dir, data):
    return load_config(
        SMALL,
        *NARROW,
        *("MODEL.YOLOF.DECODER.NUM_CLASSES", 6, "OUTPUT_DIR", str(output_dir)),
        *("DATASETS.TRAIN", (data,), "DATASETS.TEST", (data,), "DATALOADER.NUM_WORKERS", 0),
        *("INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "SOLVER.IMS_PER_BATCH", 2),
        *("SOLVER.MAX_ITER", 4, "SOLVER.WARMUP_ITERS", 0, "SOLVER.CHECKPOINT_PERIOD", 2),
        *("TEST.DRAW_IMAGES", 1, "MODEL.YOLOF.SCORE_THRESH_TEST", 0.0),
    )


def test_training_evaluates_draws_and_resumes_exactly(tmp_path, tiny_set):
    results = check_resumes_exactly(tmp_path, lambda folder: tiny_run(folder, tiny_set))
    assert 0 <= results["bbox"]["AP"] <= 100
