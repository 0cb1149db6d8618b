"""Dense, panoptic, semantic and rotated models against figures of detectron2."""

import numpy as np
import pytest
import torch

from d2lite.layers import ShapeSpec
from d2lite.modeling import FCOS, FPN, GeneralizedRCNNWithTTA
from d2lite.modeling.backbone.fpn import LastLevelP6P7
from d2lite.modeling.backbone.resnet import BasicStem, ResNet
from d2lite.modeling.meta_arch.fcos import FCOSHead
from tests.golden import Case, fill_model, load_case
from tests.modeling import test_golden_models as golden

MODELS = [
    "retinanet_R_50_FPN",
    "fcos_R_50_FPN",
    "panoptic_fpn_R_50",
    "semantic_R_50_FPN",
    "rotated_faster_rcnn_R_50_FPN",
]


@pytest.fixture(scope="module", params=MODELS)
def named_model(request) -> tuple[str, torch.nn.Module]:
    case = load_case(f"{request.param}.inference")
    if "code" in case.params:
        return request.param, build_fcos(case)
    return request.param, golden.build_case_model(case)


@torch.no_grad()
def test_inference_equals_detectron2(named_model):
    name, model = named_model
    case = load_case(f"{name}.inference")
    outputs = model.eval()(golden.test_inputs(case))
    for image, output in zip(case.params["images"], outputs, strict=True):
        golden.check_output(case, f"{image}.", output)
        check_segmentation(case, f"{image}.", output)


def test_training_equals_detectron2(named_model):
    name, model = named_model
    case = load_case(f"{name}.training")
    losses = model.train()(golden.training_inputs(case, case.params["images"]))
    assert {f"loss.{key}" for key in losses} == {k for k in case.outputs if k.startswith("loss.")}
    for key, loss in losses.items():
        case.check(f"loss.{key}", loss)
    sum(losses.values()).backward()
    parameters = dict(model.named_parameters())
    for key in case.params["grad_params"]:
        case.check(f"gradnorm.{key}", parameters[key].grad.norm())
        case.check(f"gradhead.{key}", parameters[key].grad.flatten()[:5])
    without = sorted(key for key, value in parameters.items() if value.grad is None)
    assert without == sorted(case.outputs["names_without_grad"])


def build_fcos(case: Case) -> torch.nn.Module:
    """FCOS as the golden README describes it."""
    code = case.params["code"]
    stages = ResNet.make_default_stages(code["depth"], stride_in_1x1=True, norm="FrozenBN")
    resnet = ResNet(
        BasicStem(norm="FrozenBN"),
        stages,
        out_features=["res3", "res4", "res5"],
        freeze_at=code["freeze_at"],
    )
    top = LastLevelP6P7(256, 256, in_feature="p5")
    backbone = FPN(resnet, ["res3", "res4", "res5"], 256, top_block=top)
    head = FCOSHead(
        input_shape=[ShapeSpec(channels=256)] * 5,
        num_classes=code["num_classes"],
        conv_dims=[256] * code["num_convs"],
        norm="GN",
    )
    names = (
        "num_classes",
        "test_score_thresh",
        "test_nms_thresh",
        "max_detections_per_image",
        "pixel_mean",
        "pixel_std",
    )
    model = FCOS(backbone=backbone, head=head, **{name: code[name] for name in names})
    fill_model(model, case.params["seed"], case.params["weight_factors"])
    return model


def check_segmentation(case: Case, prefix: str, output: dict) -> None:
    """Compare semantic scores and panoptic segments, where the model gives them."""
    if "sem_seg" in output:
        scores = output["sem_seg"]
        case.check(f"{prefix}sem_seg_sample", scores[:, ::12, ::12])
        case.check(f"{prefix}sem_seg_argmax", scores.argmax(dim=0))
    if "panoptic_seg" not in output:
        return
    ids, segments = output["panoptic_seg"]
    case.check(f"{prefix}panoptic_ids", ids)
    things = [x for x in segments if x["isthing"]]
    stuff = [x for x in segments if not x["isthing"]]
    for name, values in {
        "segment_ids": [x["id"] for x in segments],
        "category": [x["category_id"] for x in segments],
        "isthing": [x["isthing"] for x in segments],
        "thing_score": [x["score"] for x in things],
        "thing_instance": [x["instance_id"] for x in things],
        "stuff_area": [x["area"] for x in stuff],
    }.items():
        case.check(f"{prefix}panoptic_{name}", np.array(values))


def test_test_time_augmentation_equals_detectron2():
    case = load_case("mask_rcnn_R_50_FPN_tta.inference")
    model = GeneralizedRCNNWithTTA(golden.case_config(case), golden.build_case_model(case)).eval()
    inputs = [{**x, "image": x["image"].to(torch.uint8)} for x in golden.test_inputs(case)]
    (output,) = model(inputs)
    golden.check_output(case, "img0.", output)
