import pytest
import torch

from d2lite.config import get_cfg
from d2lite.modeling import PanopticFPN, build_model
from d2lite.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from d2lite.structures import Instances
from tests.golden import load_case
from tests.modeling.tiny import image, target


def config():
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "PanopticFPN"
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32]]
    cfg.MODEL.RPN.IN_FEATURES = ["p3", "p4"]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 5
    cfg.MODEL.MASK_ON = True
    heads = cfg.MODEL.ROI_HEADS
    heads.NAME, heads.IN_FEATURES, heads.NUM_CLASSES = "StandardROIHeads", ["p3", "p4"], 2
    heads.SCORE_THRESH_TEST = 0.0
    box = cfg.MODEL.ROI_BOX_HEAD
    box.NAME, box.POOLER_RESOLUTION, box.NUM_FC, box.FC_DIM = "FastRCNNConvFCHead", 3, 1, 8
    mask = cfg.MODEL.ROI_MASK_HEAD
    mask.NUM_CONV, mask.CONV_DIM, mask.POOLER_RESOLUTION = 1, 8, 4
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p3", "p4"]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 32
    return cfg


@pytest.mark.parametrize("call", range(2))
def test_combination_equals_detectron2(call):
    case = load_case("panoptic.combine")
    semantic = case.tensor("semantic").long()
    instances = Instances(
        tuple(semantic.shape),
        scores=case.tensor("scores"),
        pred_classes=case.tensor("classes"),
        pred_masks=case.tensor("masks"),
    )
    ids, segments = combine_semantic_and_instance_outputs(
        instances, semantic, *case.params["calls"][call]
    )
    case.check(f"call{call}.ids", ids)
    wanted = case.outputs[f"call{call}.segments"]
    assert [list(x) for x in segments] == [list(x) for x in wanted]  # same keys, same order
    assert segments == [pytest.approx(x) for x in wanted]


def test_without_instances_only_stuff_is_left():
    nothing = Instances(
        (4, 4),
        scores=torch.zeros(0),
        pred_classes=torch.zeros(0, dtype=torch.int64),
        pred_masks=torch.zeros(0, 4, 4, dtype=torch.bool),
    )
    semantic = torch.tensor([[0, 0, 2, 2]]).expand(4, 4)
    ids, segments = combine_semantic_and_instance_outputs(nothing, semantic, 0.5, 5, 0.5)
    assert ids.dtype == torch.int32 and ids[0].tolist() == [0, 0, 1, 1]
    assert segments == [{"id": 1, "isthing": False, "category_id": 2, "area": 8}]


def test_training_gives_the_losses_of_all_heads():
    torch.manual_seed(0)
    model = build_model(config())
    x = {"image": image(), "instances": target(), "sem_seg": torch.randint(0, 3, (48, 64))}
    losses = model([x])
    assert set(losses) == {
        "loss_sem_seg",
        "loss_rpn_cls",
        "loss_rpn_loc",
        "loss_cls",
        "loss_box_reg",
        "loss_mask",
    }
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(ValueError, match="'sem_seg'"):
        model([{"image": image(), "instances": target()}])


@torch.no_grad()
def test_inference_gives_all_three_results_or_the_raw_ones():
    torch.manual_seed(0)
    model = build_model(config()).eval()
    assert isinstance(model, PanopticFPN)
    inputs = [{"image": image(), "height": 24, "width": 32}]
    (x,) = model(inputs)
    assert x["sem_seg"].shape == (3, 24, 32) and x["instances"].image_size == (24, 32)
    assert x["panoptic_seg"][0].shape == (24, 32)
    detections, semantic = model.inference(inputs, do_postprocess=False)
    assert detections[0].image_size == (48, 64) and semantic.shape == (1, 3, 48, 64)


@pytest.mark.parametrize("heads", ["StandardROIHeads", "CascadeROIHeads"])
def test_the_instance_loss_weight_scales_boxes_and_masks_but_not_classes(heads: str):
    """As in detectron2, where the loss of the classes has no weight that could be scaled."""
    losses = {}
    for weight in (1.0, 0.5):
        cfg = config()
        cfg.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT = weight
        cfg.MODEL.ROI_HEADS.NAME = heads
        cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
        torch.manual_seed(0)
        model = build_model(cfg)
        x = {"image": image(), "instances": target(), "sem_seg": torch.zeros(48, 64).long()}
        losses[weight] = model([x])
    for name, loss in losses[1.0].items():
        factor = 0.5 if name.startswith(("loss_box_reg", "loss_mask")) else 1.0
        assert losses[0.5][name].item() == pytest.approx(loss.item() * factor, rel=1e-5), name
