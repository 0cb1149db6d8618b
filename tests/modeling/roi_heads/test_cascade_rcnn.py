"""Cascade heads: stages, their scores and losses, and settings that must agree."""

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.layers import ShapeSpec
from d2lite.modeling.box_regression import Box2BoxTransform
from d2lite.modeling.matcher import Matcher
from d2lite.modeling.poolers import ROIPooler
from d2lite.modeling.roi_heads import (
    CascadeROIHeads,
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    build_roi_heads,
)
from d2lite.structures import Boxes, ImageList, Instances
from d2lite.utils.events import EventStorage

SIZE = (32, 32)
SHAPE = ShapeSpec(channels=4, height=2, width=2)


def tiny_cascade(stages: int = 2, **changes) -> CascadeROIHeads:
    torch.manual_seed(0)
    settings = {
        "box_in_features": ["f"],
        "box_pooler": ROIPooler(2, [1 / 8], 2, "ROIAlignV2"),
        "box_heads": [FastRCNNConvFCHead(SHAPE, conv_dims=[], fc_dims=[8]) for _ in range(stages)],
        "box_predictors": [
            FastRCNNOutputLayers(
                8,
                box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
                num_classes=3,
                cls_agnostic_bbox_reg=True,
            )
            for _ in range(stages)
        ],
        "proposal_matchers": [Matcher([0.5 + 0.1 * i], [0, 1]) for i in range(stages)],
        "num_classes": 3,
        "batch_size_per_image": 8,
        "positive_fraction": 0.5,
    }
    return CascadeROIHeads(**{**settings, **changes})


def batch() -> tuple[ImageList, dict, list[Instances]]:
    rows = torch.tensor([[0.0, 0.0, 15.0, 16.0], [16.0, 16.0, 30.0, 30.0]])
    proposals = Instances(SIZE, proposal_boxes=Boxes(rows), objectness_logits=torch.zeros(2))
    return ImageList(torch.zeros(1, 3, *SIZE), [SIZE]), {"f": torch.randn(1, 4, 4, 4)}, [proposals]


def target(count: int = 1) -> list[Instances]:
    rows = torch.tensor([[0.0, 0.0, 16.0, 16.0]])[:count]
    return [Instances(SIZE, gt_boxes=Boxes(rows), gt_classes=torch.tensor([2])[:count])]


@pytest.mark.parametrize("objects", [0, 1])
def test_every_stage_has_its_losses_and_figures(objects: int):
    heads = tiny_cascade()
    images, features, proposals = batch()
    with EventStorage() as storage:
        _, losses = heads(images, features, proposals, target(objects))
    assert set(losses) == {
        f"{name}_stage{i}" for name in ("loss_cls", "loss_box_reg") for i in range(2)
    }
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in heads.parameters())
    logged = set(storage.latest())
    assert {"stage1/roi_head/num_fg_samples", "stage1/roi_head/num_bg_samples"} <= logged
    assert {f"stage{i}/fast_rcnn/cls_accuracy" for i in range(2)} <= logged


def test_stages_share_the_gradient_of_the_features():
    two = tiny_cascade(2, proposal_append_gt=False)
    one = tiny_cascade(1, proposal_append_gt=False)
    first_stage = {k: v for k, v in two.state_dict().items() if k in one.state_dict()}
    one.load_state_dict(first_stage)
    features = torch.randn(1, 4, 4, 4, requires_grad=True)
    gradients = []
    for heads in (one, two):
        images, _, proposals = batch()
        _, losses = heads(images, {"f": features}, proposals, target())
        loss = losses["loss_cls_stage0"] + losses["loss_box_reg_stage0"]
        gradients.append(torch.autograd.grad(loss, features)[0])
    torch.testing.assert_close(gradients[1], gradients[0] / 2)


def test_scores_are_the_mean_of_all_stages_and_boxes_the_last():
    heads = tiny_cascade().eval()
    for i, predictor in enumerate(heads.box_predictor):
        torch.nn.init.zeros_(predictor.cls_score.weight)
        torch.nn.init.zeros_(predictor.bbox_pred.weight)
        predictor.cls_score.bias.data = torch.tensor([0.0, 0.0, 0.0, 0.0])
        predictor.bbox_pred.bias.data = torch.tensor([0.1, 0.0, 0.0, 0.0])  # a tenth to the right
        predictor.cls_score.bias.data[1] = 50.0 * i  # only the last stage is sure
    images, features, proposals = batch()
    with torch.no_grad():
        (found,), _ = heads(images, features, proposals)
    best = found[found.pred_classes == 1]
    assert best.scores.tolist() == pytest.approx([(0.25 + 1) / 2] * 2)
    expected = [[3.0, 0.0, 18.0, 16.0], [18.8, 16.0, 32.0, 30.0]]  # two moves, clipped at 32
    for row, box in zip(expected, sorted(best.pred_boxes.tensor.tolist()), strict=True):
        assert box == pytest.approx(row, abs=1e-4)


def test_boxes_without_area_are_dropped_in_training_only():
    heads = tiny_cascade()
    rows = [torch.tensor([[0.0, 0.0, 9.0, 9.0], [40.0, 0.0, 50.0, 9.0]])]
    assert len(heads._create_proposals_from_boxes(rows, [SIZE])[0]) == 1
    heads.eval()
    rows = [torch.tensor([[0.0, 0.0, 9.0, 9.0], [40.0, 0.0, 50.0, 9.0]])]
    assert len(heads._create_proposals_from_boxes(rows, [SIZE])[0]) == 2


def test_a_subclass_with_a_box_branch_of_its_own_gets_detached_proposals():
    class OwnBranch(CascadeROIHeads):
        """A subclass as programs write it, with stages built by methods of the base class."""

        def _forward_box(self, features, proposals, targets=None):
            features = [features[f] for f in self.box_in_features]
            sizes = [x.image_size for x in proposals]
            losses, boxes = {}, None
            for k in range(self.num_cascade_stages):
                if k > 0:
                    assert all(b.requires_grad for b in boxes)
                    proposals = self._create_proposals_from_boxes(boxes, sizes)
                    assert not any(x.proposal_boxes.tensor.requires_grad for x in proposals)
                    proposals = self._match_and_label_boxes(proposals, k, targets)
                predictions = self._run_stage(features, proposals, k)
                boxes = self.box_predictor[k].predict_boxes(predictions, proposals)
                stage_losses = self.box_predictor[k].losses(predictions, proposals)
                losses.update({f"{name}_stage{k}": x for name, x in stage_losses.items()})
            return losses

    heads = tiny_cascade()
    images, features, proposals = batch()
    losses = []
    for cls in (CascadeROIHeads, OwnBranch):
        heads.__class__ = cls
        torch.manual_seed(0)
        losses.append(heads(images, features, proposals, target())[1])
    assert losses[0].keys() == losses[1].keys()
    for name, loss in losses[0].items():
        torch.testing.assert_close(losses[1][name], loss)
    gradients = [
        torch.autograd.grad(sum(x.values()), heads.box_predictor[0].bbox_pred.weight)[0]
        for x in losses
    ]
    torch.testing.assert_close(*gradients)


def test_a_subclass_may_look_at_boxes_with_their_gradient():
    seen = []

    class Watching(CascadeROIHeads):
        def _create_proposals_from_boxes(self, boxes, image_sizes):
            seen.extend(boxes)
            return super()._create_proposals_from_boxes(boxes, image_sizes)

    heads = tiny_cascade(3)
    heads.__class__ = Watching
    images, features, proposals = batch()
    heads(images, features, proposals, target())
    assert len(seen) == 2 and all(boxes.requires_grad for boxes in seen)


def test_stages_must_be_complete():
    with pytest.raises(ValueError, match=r"box heads \(2\).*predictors \(2\).*matchers \(1\)"):
        tiny_cascade(proposal_matchers=[Matcher([0.5], [0, 1])])


@pytest.mark.parametrize(
    "changes, message",
    [
        (["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False], "CLS_AGNOSTIC_BBOX_REG True"),
        (["MODEL.ROI_HEADS.IOU_THRESHOLDS", [0.4]], r"CASCADE_HEAD\.IOUS is 0\.5.*is 0\.4"),
        (
            ["MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", (1.0, 1.0, 1.0, 1.0)],
            r"CASCADE_HEAD\.BBOX_REG_WEIGHTS is \(10\.0",
        ),
        (["MODEL.ROI_BOX_CASCADE_HEAD.IOUS", (0.5, 0.6)], "2 IOUS but 3 BBOX_REG_WEIGHTS"),
    ],
)
def test_settings_must_agree(changes: list, message: str):
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NAME = "CascadeROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    cfg.merge_from_list(changes)
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_roi_heads(cfg, {"res4": ShapeSpec(channels=4, stride=16)})
