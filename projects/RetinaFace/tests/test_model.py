"""Targets and losses of RetinaFace by hand; every config builds; training, resuming, evaluation."""

from pathlib import Path

import pytest
import torch

from d2lite.modeling import build_model
from d2lite.structures import Boxes, Keypoints
from tests.project_checks import (
    batch,
    check_resumes_exactly,
    few_images,
    project_config,
    train_on,
    truth,
)

CONFIGS = Path(__file__).parents[1] / "configs"


def make_cfg(name="shapes_mobilenet0.25.yaml", **changes):
    opts = [part for key, v in changes.items() for part in (key.replace("__", "."), v)]
    return project_config(CONFIGS / name, *opts)


@pytest.fixture(scope="module")
def model():
    return build_model(make_cfg(MODEL__ANCHOR_GENERATOR__SIZES=[[16], [32], [64]]))


def faces(boxes, points=None):
    made = truth(boxes, [0] * len(boxes), (64, 64))
    if points is not None:
        made.gt_keypoints = Keypoints(points)
    return made


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_builds_and_detects(path):
    model = build_model(make_cfg(path.name)).eval()
    with torch.no_grad():
        found = model([{"image": torch.zeros(3, 64, 70)}])[0]["instances"]
    assert found.has("pred_keypoints") == ("bccd" not in path.stem)


def test_anchors_get_labels_boxes_and_landmarks(model):
    # Anchors of 16 pixels lie around 4, 12, 20, ...; the first face is the one around (20, 20).
    anchors = model.anchor_generator([torch.zeros(1, 1, n, n) for n in (8, 4, 2)])
    face = [[12.0, 12.0, 28.0, 28.0]]
    points = torch.full((1, 5, 3), 2.0)
    empty = faces([])
    labels, boxes, found_points = model.label_anchors(
        Boxes.cat(anchors), [faces(face, points), empty]
    )
    assert labels[0].tolist().index(1) == 2 * 8 + 2
    assert (labels[0] == 1).sum() == 1  # its neighbors overlap by a third
    assert (labels[0] == -1).sum() == 4  # ... which is ignored: above, below, left, right
    assert (labels[1] == 0).all()
    assert boxes.tolist() == face
    assert torch.equal(found_points, points)


def test_perfect_boxes_and_landmarks_cost_nothing(model):
    anchors = torch.tensor([[0.0, 0.0, 16.0, 16.0], [8.0, 0.0, 24.0, 16.0]])
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    points = torch.cat([torch.full((1, 5, 2), 8.0), torch.ones(1, 5, 1)], dim=2)
    targets = (torch.tensor([[1, 0]]), box, points)
    targets = type(model.label_anchors(Boxes(anchors), [faces([])]))(*targets)
    predictions = [torch.zeros(1, 2, 2), torch.zeros(1, 2, 4), torch.zeros(1, 2, 10)]
    losses = model.losses(anchors, predictions, targets)
    assert losses["loss_box_reg"] == 0 and losses["loss_landmark"] == 0
    # Smooth L1 of 3 is 2.5: for one delta, twice weighted, and for one offset.
    predictions[1][0, 0, 2] = predictions[2][0, 0, 7] = 3.0
    losses = model.losses(anchors, predictions, targets)
    assert losses["loss_box_reg"].item() == pytest.approx(5.0)
    assert losses["loss_landmark"].item() == pytest.approx(2.5)
    # A landmark that is not labeled does not count.
    targets.points[0, 3, 2] = 0
    assert model.losses(anchors, predictions, targets)["loss_landmark"] == 0


def test_losses_of_empty_images_are_finite(model):
    model.train()
    losses = model(batch(faces([]), faces([])))
    sum(losses.values()).backward()
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_landmark"}
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model.head.landmark_pred[0].weight.grad is not None  # DDP needs all


def test_data_of_other_landmarks_are_refused(model):
    gt = faces([[0.0, 0.0, 16.0, 16.0]], torch.zeros(1, 17, 3))
    with pytest.raises(ValueError, match=r"17 keypoints, but MODEL\.RETINAFACE"):
        model.label_anchors(Boxes(torch.zeros(1, 4)), [gt])


@pytest.fixture(scope="module")
def tiny_set():
    with few_images("shapes_faces_val") as name:
        yield name


def tiny_run(output_dir, data):
    return make_cfg(
        DATASETS__TRAIN=(data,),
        DATASETS__TEST=(data,),
        DATALOADER__NUM_WORKERS=0,
        INPUT__MIN_SIZE_TRAIN=(96,),
        INPUT__MIN_SIZE_TEST=96,
        SOLVER__IMS_PER_BATCH=2,
        SOLVER__MAX_ITER=6,
        SOLVER__WARMUP_ITERS=0,
        SOLVER__CHECKPOINT_PERIOD=3,
        TEST__DRAW_IMAGES=1,
        OUTPUT_DIR=str(output_dir),
        SEED=1,
    )


def test_training_evaluates_draws_and_resumes_exactly(tmp_path, tiny_set):
    results = check_resumes_exactly(tmp_path, lambda folder: tiny_run(folder, tiny_set))
    assert set(results) == {"bbox", "keypoints", "landmarks"}
    assert {"NME", "FR10", "Detected"} == set(results["landmarks"])


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    model = build_model(make_cfg(MODEL__ANCHOR_GENERATOR__SIZES=[[16], [32], [64]])).train()
    points = torch.tensor([[[15.0, 16, 1], [25, 16, 1], [20, 20, 1], [16, 25, 1], [24, 25, 1]]])
    images = batch(faces([[12.0, 12.0, 28.0, 28.0]], points), faces([], torch.zeros(0, 5, 3)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = train_on(model, images, optimizer, 12)
    assert sum(totals[-4:]) < 0.8 * sum(totals[:4])
