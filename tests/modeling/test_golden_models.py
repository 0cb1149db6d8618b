"""Whole models against figures of detectron2: detections, losses, gradients, ten SGD steps."""

import numpy as np
import pytest
import torch

from d2lite.config import get_cfg
from d2lite.modeling import build_model
from d2lite.solver import build_lr_scheduler, build_optimizer
from d2lite.structures import (
    Boxes,
    Instances,
    Keypoints,
    PolygonMasks,
    RotatedBoxes,
)
from tests.golden import Case, fill_model, golden_annotations, golden_images, load_case

RCNN_CASES = [
    "faster_rcnn_R_50_FPN",
    "faster_rcnn_R_50_C4",
    "faster_rcnn_R_50_DC5",
    "faster_rcnn_R_50_FPN_cls_agnostic_box",
    "faster_rcnn_R_50_FPN_giou",
    "fast_rcnn_R_50_FPN",
    "rpn_R_50_FPN",
    "mask_rcnn_R_50_FPN",
    "mask_rcnn_R_50_C4",
    "mask_rcnn_R_50_FPN_cls_agnostic_mask",
    "mask_rcnn_R_50_FPN_gn",
    "keypoint_rcnn_R_50_FPN",
    "cascade_mask_rcnn_R_50_FPN",
]


# Of module scope, so that pytest runs both tests of a model one after the other.
@pytest.fixture(scope="module", params=RCNN_CASES)
def named_model(request) -> tuple[str, torch.nn.Module]:
    """The name of a model and the model; filling its weights takes longer than running it."""
    inference, training = (load_case(f"{request.param}.{x}") for x in ("inference", "training"))
    for key in ("cfg", "seed", "weight_factors"):
        assert inference.params.get(key) == training.params.get(key)
    return request.param, build_case_model(inference)


def test_inference_gives_the_detections_of_detectron2(named_model):
    name, model = named_model
    case = load_case(f"{name}.inference")
    model.eval()
    with torch.no_grad():
        outputs = model(test_inputs(case))
    for image, output in zip(case.params["images"], outputs, strict=True):
        check_output(case, f"{image}.", output)


def test_training_gives_the_losses_and_gradients_of_detectron2(named_model):
    name, model = named_model
    case = load_case(f"{name}.training")
    model.train()
    losses = model(training_inputs(case, case.params["images"]))
    wanted = {key for key in case.outputs if key.startswith("loss.")}
    assert {f"loss.{key}" for key in losses} == wanted
    for key, loss in losses.items():
        case.check(f"loss.{key}", loss)

    sum(losses.values()).backward()
    parameters = dict(model.named_parameters())
    for key in case.params["grad_params"]:
        gradient = parameters[key].grad
        case.check(f"gradnorm.{key}", gradient.norm())
        case.check(f"gradhead.{key}", gradient.flatten()[:5])
    without = sorted(k for k, p in parameters.items() if p.grad is None)
    assert without == sorted(case.outputs["names_without_grad"])


@torch.no_grad()
def test_features_proposals_and_predictions_of_faster_rcnn_fpn():
    case = load_case("faster_rcnn_R_50_FPN.intermediate")
    model = build_case_model(case).eval()
    images = model.preprocess_image(test_inputs(case))
    case.check("image_tensor_shape", images.tensor.shape)
    case.check("image_tensor_stats", torch.stack([images.tensor.mean(), images.tensor.std()]))

    features = model.backbone(images.tensor)
    for name, x in features.items():
        case.check(f"{name}.shape", x.shape)
        case.check(f"{name}.mean_std", torch.stack([x.mean(), x.std()]))
        case.check(f"{name}.slice", x[0, :6, :3, :4])
    rpn = model.proposal_generator
    logits, deltas = rpn.rpn_head([features[name] for name in rpn.in_features])
    for level, (logits_i, deltas_i) in enumerate(zip(logits, deltas, strict=True)):
        case.check(f"rpn_logits{level}.shape", logits_i.shape)
        case.check(f"rpn_logits{level}.slice", logits_i[0, :, :3, :4])
        case.check(f"rpn_deltas{level}.shape", deltas_i.shape)
        case.check(f"rpn_deltas{level}.slice", deltas_i[0, :, :2, :2])
    proposals, _ = rpn(images, features)
    check_box_branch(case, model.roi_heads, features, proposals)


def check_box_branch(case: Case, heads, features: dict, proposals: list[Instances]) -> None:
    """Compare the first proposals, and what the box branch makes of them."""
    for i, x in enumerate(proposals):
        case.check(f"num_proposals{i}", len(x))
        case.check(f"proposals{i}.boxes", x.proposal_boxes.tensor[:20])
        case.check(f"proposals{i}.scores", x.objectness_logits[:20])
    levels = [features[name] for name in heads.box_in_features]
    pooled = heads.box_pooler(levels, [x.proposal_boxes[:20] for x in proposals])
    case.check("box_pool.shape", pooled.shape)
    case.check("box_pool.slice", pooled[::7, ::64, 3, 3])
    vectors = heads.box_head(pooled)
    case.check("box_head.slice", vectors[::7, ::64])
    scores, deltas = heads.box_predictor(vectors)
    case.check("cls_logits.slice", scores[::7, ::8])
    case.check("box_deltas.slice", deltas[::7, ::16])


def test_ten_steps_of_sgd_follow_the_trajectory_of_detectron2():
    case = load_case("trajectory_faster_rcnn_R_50_FPN.sgd10")
    cfg = case_config(case)
    model = build_case_model(case).train()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    batches = [training_inputs(case, images) for images in case.params["batches"]]
    history, rates = [], []
    for i in range(case.params["iterations"]):
        losses = model(batches[i % len(batches)])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({key: loss.item() for key, loss in losses.items()})
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()

    case.check("lr", rates)
    for key in history[0]:
        case.check(f"loss.{key}", [step[key] for step in history])
    state = model.state_dict()
    finals = [key for key in case.outputs if key.startswith("final.")]
    for key in finals:
        final = state[key.removeprefix("final.")].flatten()
        case.check(key, final[: case.outputs[key].size].view(case.outputs[key].shape))


def case_config(case: Case):
    """The whole config of a case, on the CPU."""
    cfg = get_cfg()
    cfg.merge_from_list([x for item in case.params["cfg"].items() for x in item])
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def build_case_model(case: Case) -> torch.nn.Module:
    """The model of a case with its weights by the fill rule."""
    model = build_model(case_config(case))
    fill_model(model, case.params["seed"], case.params.get("weight_factors"))
    return model


def image_tensor(name: str) -> torch.Tensor:
    """A golden image as (3, H, W) float32."""
    return torch.from_numpy(golden_images()[name].astype(np.float32)).permute(2, 0, 1)


def test_inputs(case: Case) -> list[dict]:
    """The input dicts of an inference case."""
    sizes = case.params["out_sizes"]
    inputs = []
    for i, (name, (height, width)) in enumerate(zip(case.params["images"], sizes, strict=True)):
        x = {"image": image_tensor(name), "height": height, "width": width}
        inputs.append({**x, **given_proposals(case, i, x["image"])})
    return inputs


test_inputs.__test__ = False  # a helper, whatever its name looks like


def given_proposals(case: Case, index: int, image: torch.Tensor) -> dict:
    """The "proposals" entry of the input number `index`, where the case has one."""
    if not case.params.get("proposals"):
        return {}
    proposals = Instances(tuple(image.shape[1:]))
    proposals.proposal_boxes = Boxes(case.tensor(f"proposals{index}.boxes"))
    proposals.objectness_logits = case.tensor(f"proposals{index}.logits")
    return {"proposals": proposals}


def training_inputs(case: Case, images: list[str]) -> list[dict]:
    """The input dicts of a training batch."""
    inputs = []
    for i, name in enumerate(images):
        x = {"image": image_tensor(name), "instances": ground_truth(case, name)}
        if case.params.get("sem_seg"):
            x["sem_seg"] = semantic_labels(case, name)
        inputs.append({**x, **given_proposals(case, i, x["image"])})
    return inputs


def semantic_labels(case: Case, name: str) -> torch.Tensor:
    """(H, W) int64 labels modulo the case's classes; 255 stays."""
    labels = torch.from_numpy(golden_images()[f"{name}.sem_seg"].astype(np.int64))
    return torch.where(labels == 255, labels, labels % case.params["sem_seg_classes"])


def ground_truth(case: Case, name: str) -> Instances:
    """The annotations of a golden image, with the fields that the case asks for."""
    annotations = golden_annotations()[name]
    params = case.params
    target = Instances(golden_images()[name].shape[:2])
    if params.get("rotated"):
        target.gt_boxes = RotatedBoxes(torch.tensor(annotations["rotated_boxes"]).float())
    else:
        target.gt_boxes = Boxes(torch.tensor(annotations["boxes"]).float())
    target.gt_classes = torch.tensor(annotations["classes"]) % params["num_classes"]
    if params.get("mask"):
        target.gt_masks = PolygonMasks(
            [
                [np.asarray(p, dtype=np.float64) for p in polygons]
                for polygons in annotations["polygons"]
            ]
        )
    if params.get("keypoint"):
        target.gt_keypoints = Keypoints(torch.tensor(annotations["keypoints"]).float())
    return target


def check_output(case: Case, prefix: str, output: dict) -> None:
    """Compare the result of one image with what the case holds for it."""
    if "instances" in output:
        case.check_detections(prefix, detection_arrays(output["instances"]))
    if "proposals" in output:
        x = output["proposals"]
        got = {"boxes": x.proposal_boxes.tensor, "scores": x.objectness_logits}
        case.check_detections(prefix, got)


def detection_arrays(x: Instances) -> dict:
    """Detections by the names that golden cases use."""
    arrays = {"boxes": x.pred_boxes.tensor, "scores": x.scores, "classes": x.pred_classes}
    if x.has("pred_masks"):
        arrays["masks"] = x.pred_masks
    if x.has("pred_keypoints"):
        arrays["keypoints"] = x.pred_keypoints
    return arrays
