"""A training step takes the numbers of torch's generator that detectron2 takes, and no others."""

import pytest
import torch

from d2lite.config import CfgNode, get_cfg
from d2lite.modeling import build_model
from d2lite.modeling.backbone.swin import WindowAttention
from d2lite.modeling.box_regression import Box2BoxTransform
from d2lite.modeling.roi_heads import FastRCNNOutputLayers
from d2lite.structures import Instances, Keypoints, RotatedBoxes
from tests.modeling.tiny import image, no_target, target


def config(heads: str) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32]]
    cfg.MODEL.RPN.IN_FEATURES = ["p3", "p4"]
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 20
    cfg.MODEL.ROI_HEADS.NAME = heads
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3", "p4"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.MASK_ON = heads != "RROIHeads"
    cfg.MODEL.KEYPOINT_ON = heads in ("StandardROIHeads", "CascadeROIHeads")
    box = cfg.MODEL.ROI_BOX_HEAD
    box.NAME, box.POOLER_RESOLUTION, box.NUM_FC, box.FC_DIM = "FastRCNNConvFCHead", 4, 1, 8
    box.CLS_AGNOSTIC_BBOX_REG = True
    mask, keypoint = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.ROI_KEYPOINT_HEAD
    mask.NUM_CONV, mask.CONV_DIM, mask.POOLER_RESOLUTION = 1, 8, 4
    keypoint.CONV_DIMS, keypoint.POOLER_RESOLUTION, keypoint.NUM_KEYPOINTS = [8], 4, 2
    if heads == "Res5ROIHeads":
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p4"]
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS, cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 2, 1
    if heads == "RROIHeads":
        cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RRPN"
        cfg.MODEL.ANCHOR_GENERATOR.NAME = "RotatedAnchorGenerator"
        cfg.MODEL.ANCHOR_GENERATOR.ANGLES = [[-45, 0, 45]]
        cfg.MODEL.RPN.BBOX_REG_WEIGHTS = box.BBOX_REG_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0)
        box.POOLER_TYPE = "ROIAlignRotated"
    return cfg


def batch(cfg: CfgNode) -> list[dict]:
    """Two images, the second without objects."""
    inputs = []
    for truth in (target(), no_target()):
        truth.gt_keypoints = Keypoints(torch.tensor([[[9.0, 9.0, 2.0]] * 2])[: len(truth)])
        if cfg.MODEL.ROI_HEADS.NAME == "RROIHeads":
            rotated = RotatedBoxes(torch.tensor([[24.0, 24.0, 32.0, 32.0, 0.0]])[: len(truth)])
            truth = Instances(truth.image_size, gt_boxes=rotated, gt_classes=truth.gt_classes)
        inputs.append({"image": image(), "instances": truth})
    return inputs


@pytest.mark.parametrize(
    "heads", ["StandardROIHeads", "CascadeROIHeads", "Res5ROIHeads", "RROIHeads"]
)
def test_a_step_samples_anchors_of_all_images_and_then_proposals(heads: str, monkeypatch):
    torch.manual_seed(0)
    cfg = config(heads)
    model = build_model(cfg)
    inputs = batch(cfg)
    counts: list[int] = []
    randperm = torch.randperm

    def recording(n: int, **kwargs) -> torch.Tensor:
        counts.append(n)
        return randperm(n, **kwargs)

    monkeypatch.setattr(torch, "randperm", recording)
    num_proposals = []
    model.proposal_generator.register_forward_hook(
        lambda module, args, result: num_proposals.extend(len(x) for x in result[0])
    )
    torch.manual_seed(7)
    sum(model(inputs).values()).backward()
    next_random_number = torch.rand(1)

    torch.manual_seed(7)
    for n in counts:
        randperm(n)
    assert torch.equal(next_random_number, torch.rand(1))  # nothing else was drawn

    # Of each image first the foreground, then the background.
    assert len(counts) == 8
    anchors, proposals = counts[:4], counts[4:]
    num_anchors = 6 * 8 * 3 + 3 * 4 * 3  # three ratios at strides 8 and 16
    num_anchors *= 3 if heads == "RROIHeads" else 1  # angles
    assert anchors[0] > 0 and anchors[1] > 0 and anchors[0] + anchors[1] <= num_anchors
    assert anchors[2:] == [0, num_anchors]
    assert proposals[0] > 0 and proposals[0] + proposals[1] == num_proposals[0] + 1  # the object
    assert proposals[2:] == [0, num_proposals[1]]


def test_other_classes_of_the_federated_loss_are_one_draw_without_replacement():
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    predictor = FastRCNNOutputLayers(
        4,
        box2box_transform=Box2BoxTransform((1.0, 1.0, 1.0, 1.0)),
        num_classes=6,
        use_sigmoid_ce=True,
        use_fed_loss=True,
        get_fed_loss_cls_weights=lambda: weights,
        fed_loss_num_classes=4,
    )
    torch.manual_seed(0)
    trained = predictor.get_fed_loss_classes(torch.tensor([6, 2, 6, 0]), 4, 6, weights)
    torch.manual_seed(0)
    chances = torch.tensor([0.0, 2.0, 0.0, 4.0, 5.0, 6.0, 0.0])
    others = chances.multinomial(1, replacement=False)  # 0, 2 and the background are present
    assert trained.tolist() == [0, 2, 6, *others.tolist()]


def test_dropout_of_attention_draws_one_number_per_weight():
    attention = WindowAttention(8, (2, 2), num_heads=2, attn_drop=0.5, proj_drop=0.25)
    x = torch.randn(6, 4, 8)
    mask = torch.zeros(3, 4, 4)
    torch.manual_seed(0)
    found = attention(x, mask)
    next_random_number = torch.rand(1)

    torch.manual_seed(0)
    q, k, v = attention.qkv(x).view(6, 4, 3, 2, 4).permute(2, 0, 3, 1, 4)
    logits = q @ k.transpose(-2, -1) * attention.scale + attention._position_bias()
    weights = torch.nn.functional.dropout(logits.softmax(-1), 0.5)
    mixed = attention.proj((weights @ v).transpose(1, 2).reshape(6, 4, 8))
    expected = torch.nn.functional.dropout(mixed, 0.25)
    torch.testing.assert_close(found, expected)
    assert torch.equal(next_random_number, torch.rand(1))
