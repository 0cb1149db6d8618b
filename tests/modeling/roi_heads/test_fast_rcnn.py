"""The box predictor: detectron2's losses and detections, and the federated loss by hand."""

import pytest
import torch

from d2lite.layers import ShapeSpec
from d2lite.modeling.box_regression import Box2BoxTransform
from d2lite.modeling.roi_heads import FastRCNNOutputLayers
from d2lite.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from d2lite.structures import Boxes, Instances
from d2lite.utils.events import EventStorage
from tests.golden import load_case


def predictor(num_classes: int = 5, **kwargs) -> FastRCNNOutputLayers:
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    return FastRCNNOutputLayers(8, box2box_transform=transform, num_classes=num_classes, **kwargs)


def logged(storage: EventStorage) -> dict[str, float]:
    return {name: value for name, (value, _) in storage.latest().items()}


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("loss_type", ["smooth_l1", "giou", "diou", "ciou"])
def test_losses_are_those_of_detectron2(loss_type: str, agnostic: bool):
    case = load_case("losses.fast_rcnn_output_layers")
    layers = predictor(
        box_reg_loss_type=loss_type,
        cls_agnostic_bbox_reg=agnostic,
        loss_weight={"loss_box_reg": 2.0},
    )
    proposals = [
        Instances(
            (100, 100),
            proposal_boxes=Boxes(case.tensor(f"proposals{i}")),
            gt_boxes=Boxes(case.tensor(f"gt{i}")),
            gt_classes=case.tensor(f"classes{i}"),
        )
        for i in range(2)
    ]
    scores = case.tensor("scores").requires_grad_()
    deltas = case.tensor("deltas")[:, : 4 if agnostic else None].clone().requires_grad_()
    with EventStorage() as storage:
        losses = layers.losses((scores, deltas), proposals)
    sum(losses.values()).backward()
    prefix = f"{loss_type}_{agnostic}"
    for name, loss in losses.items():
        case.check(f"{prefix}_{name}", loss)
    case.check(f"{prefix}_grad_deltas", deltas.grad)
    case.check(f"{prefix}_grad_scores", scores.grad)
    assert logged(storage) == pytest.approx(case.outputs[f"{prefix}_logged"], abs=1e-6)


@pytest.mark.parametrize("call", range(4))
def test_detections_are_those_of_detectron2(call: int):
    case = load_case("roi_heads.fast_rcnn_inference")
    settings = case.params["calls"][call % 2]
    boxes = case.tensor("boxes" if call < 2 else "boxes_agnostic")
    (found,), (rows,) = fast_rcnn_inference(
        [boxes],
        [case.tensor("scores")],
        [tuple(case.params["image_size"])],
        settings["score_thresh"],
        settings["nms_thresh"],
        settings["topk"],
    )
    case.check(f"call{call}.boxes", found.pred_boxes.tensor)
    case.check(f"call{call}.scores", found.scores)
    case.check(f"call{call}.classes", found.pred_classes)
    case.check(f"call{call}.kept", rows)


def test_rows_with_bad_numbers_are_dropped():
    boxes = torch.tensor([[0.0, 0.0, float("nan"), 9.0], [0.0, 0.0, 9.0, 9.0]])
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    (found,), (rows,) = fast_rcnn_inference([boxes], [scores], [(20, 20)], 0.5, 0.5, 10)
    assert found.scores.tolist() == pytest.approx([0.8])
    assert rows.tolist() == [1]


def test_no_proposals_give_no_detections():
    (found,), _ = fast_rcnn_inference(
        [torch.zeros(0, 12)], [torch.zeros(0, 4)], [(20, 20)], 0.5, 0.5, 10
    )
    assert len(found) == 0
    assert found.pred_boxes.tensor.shape == (0, 4)


def test_an_image_without_objects_has_a_finite_loss():
    layers = predictor()
    x = Instances(
        (50, 50),
        proposal_boxes=Boxes(torch.tensor([[0.0, 0.0, 9.0, 9.0]])),
        gt_classes=torch.tensor([5]),
    )
    losses = layers.losses(layers(torch.randn(1, 8)), [x])
    sum(losses.values()).backward()
    assert losses["loss_box_reg"] == 0
    assert losses["loss_cls"] > 0
    assert torch.isfinite(layers.bbox_pred.weight.grad).all()


@pytest.mark.parametrize("use_sigmoid_ce", [False, True])
def test_no_proposals_have_a_zero_loss_with_a_gradient(use_sigmoid_ce: bool):
    layers = predictor(use_sigmoid_ce=use_sigmoid_ce)
    x = Instances(
        (50, 50),
        proposal_boxes=Boxes(torch.zeros(0, 4)),
        gt_classes=torch.zeros(0, dtype=torch.int64),
    )
    losses = layers.losses(layers(torch.zeros(0, 8)), [x])
    sum(losses.values()).backward()
    assert sum(losses.values()) == 0
    assert layers.cls_score.weight.grad.abs().sum() == 0


def test_proposals_that_carry_gradients_are_refused():
    layers = predictor()
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0]], requires_grad=True)
    x = Instances((50, 50), proposal_boxes=Boxes(boxes), gt_classes=torch.tensor([5]))
    with pytest.raises(AssertionError, match="detach"):
        layers.losses(layers(torch.zeros(1, 8)), [x])


def test_sigmoid_loss_worked_by_hand():
    layers = predictor(num_classes=2, use_sigmoid_ce=True)
    logits = torch.zeros(2, 3)
    # each of 2 classes costs log 2 for each of 2 boxes; the mean is over the boxes
    loss = layers.sigmoid_cross_entropy_loss(logits, torch.tensor([0, 2]))
    assert loss.item() == pytest.approx(2 * 0.693147, rel=1e-4)


def federated(weights: torch.Tensor, trained: int) -> FastRCNNOutputLayers:
    return predictor(
        num_classes=len(weights),
        use_sigmoid_ce=True,
        use_fed_loss=True,
        get_fed_loss_cls_weights=lambda: weights,
        fed_loss_num_classes=trained,
    )


def test_federated_loss_trains_present_and_drawn_classes_only():
    layers = federated(torch.tensor([1.0, 1.0, 0.0, 1.0]), trained=2)
    logits = torch.zeros(1, 5, requires_grad=True)
    layers.sigmoid_cross_entropy_loss(logits, torch.tensor([1])).backward()
    trained = logits.grad[0].nonzero()[:, 0].tolist()
    assert len(trained) == 2
    assert 1 in trained  # present
    assert 2 not in trained  # never drawn
    assert 4 not in trained  # the background has no classifier


def test_more_present_classes_than_wanted_are_all_trained():
    layers = federated(torch.ones(4), trained=1)
    present = layers.get_fed_loss_classes(torch.tensor([3, 0, 3]), 1, 4, None)
    assert present.tolist() == [0, 3]


def test_federated_weights_are_not_saved():
    assert "fed_loss_cls_weights" not in federated(torch.ones(4), 1).state_dict()


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"use_sigmoid_ce": False}, "USE_SIGMOID_CE True"),
        ({"fed_loss_num_classes": 6}, "FED_LOSS_NUM_CLASSES is 6.*NUM_CLASSES, which is 5"),
        ({}, "get_fed_loss_cls_weights"),
    ],
)
def test_federated_settings_that_do_not_fit(kwargs: dict, message: str):
    settings = {"use_fed_loss": True, "use_sigmoid_ce": True, "fed_loss_num_classes": 2, **kwargs}
    with pytest.raises(ValueError, match=message):
        predictor(**settings)


@pytest.mark.parametrize("agnostic", [False, True])
def test_boxes_of_true_classes(agnostic: bool):
    layers = predictor(num_classes=3, cls_agnostic_bbox_reg=agnostic)
    x = Instances(
        (50, 50),
        proposal_boxes=Boxes(torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 2)),
        gt_classes=torch.tensor([1, 3]),  # 3 is background: the last class stands in
    )
    deltas = torch.zeros(2, 4 if agnostic else 12)
    if not agnostic:
        deltas[0, 4] = deltas[1, 8] = 10.0  # moves right by 10 / 10 widths
    (boxes,) = layers.predict_boxes_for_gt_classes((None, deltas), [x])
    assert boxes[:, 0].tolist() == ([0, 0] if agnostic else [10, 10])


def test_features_may_be_maps():
    layers = FastRCNNOutputLayers(
        ShapeSpec(channels=2, height=3, width=3),
        box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        num_classes=4,
    )
    scores, deltas = layers(torch.zeros(6, 2, 3, 3))
    assert (scores.shape, deltas.shape) == ((6, 5), (6, 16))
