"""SSD300, SSDLite and VGG-16 against torchvision on equal random weights."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.ops import box_iou

from d2lite.config import get_cfg
from d2lite.modeling import build_model
from d2lite.projects import add_projects
from d2lite.projects.ssd import VGG16, convert_ssd, multibox_loss
from d2lite.structures import Boxes, Instances

CONFIGS = Path(__file__).parents[1] / "configs"
MODELS = {
    "ssd300_VGG16.yaml": ssd300_vgg16,
    "ssdlite320_mobilenet_v3_large.yaml": ssdlite320_mobilenet_v3_large,
}
NUM_CLASSES = 3


def make_pair(config: str):
    """torchvision's model and ours with the same weights, spread so that scores differ."""
    torch.manual_seed(3)
    theirs = MODELS[config](weights=None, weights_backbone=None, num_classes=NUM_CLASSES + 1)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.002, 0.004)
    cfg = get_cfg()
    add_projects(cfg, str(CONFIGS / config))
    cfg.merge_from_file(str(CONFIGS / config))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.SSD.NUM_CLASSES = NUM_CLASSES
    ours = build_model(cfg)
    ours.load_state_dict(theirs.state_dict())  # no conversion: names and classes are the same
    return theirs.eval(), ours.eval()


class Outputs(NamedTuple):
    """What a model gives for one image, from the features to the detections."""

    features: list[torch.Tensor]
    logits: torch.Tensor  # (1, R, K+1)
    deltas: torch.Tensor  # (1, R, 4)
    anchors: torch.Tensor  # (R, 4)
    detections: dict[str, torch.Tensor]  # those with an area: torchvision keeps the others


def their_outputs(model, image) -> Outputs:
    images, _ = model.transform([image / 255.0])
    features = list(model.backbone(images.tensors).values())
    heads = model.head(features)
    anchors = model.anchor_generator(images, features)
    found = model.postprocess_detections(heads, anchors, images.image_sizes)
    found = model.transform.postprocess(found, images.image_sizes, [image.shape[-2:]])[0]
    with_area = (found["boxes"][:, 2:] > found["boxes"][:, :2]).all(dim=1)
    detections = {name: value[with_area] for name, value in found.items()}
    return Outputs(features, heads["cls_logits"], heads["bbox_regression"], anchors[0], detections)


def our_outputs(model, image) -> Outputs:
    """All from one call of the model."""
    seen = {}
    for name in ("backbone", "head", "anchor_generator"):
        module = getattr(model, name)
        module.register_forward_hook(lambda *x, name=name: seen.__setitem__(name, x[-1]))
    found = model([{"image": image}])[0]["instances"]
    assert found.image_size == image.shape[-2:]
    detections = {
        "boxes": found.pred_boxes.tensor,
        "scores": found.scores,
        "labels": found.pred_classes + 1,
    }
    logits, deltas = model._by_box(seen["head"])
    anchors = Boxes.cat(seen["anchor_generator"]).tensor
    return Outputs(list(seen["backbone"].values()), logits, deltas, anchors, detections)


@pytest.fixture(scope="module", params=MODELS)
def pair(request):
    return make_pair(request.param)


@pytest.fixture(scope="module")
def outputs(pair):
    image = torch.randint(0, 256, (3, 200, 260), dtype=torch.uint8)
    with torch.no_grad():
        return their_outputs(pair[0], image), our_outputs(pair[1], image)


def test_features_equal_torchvision(pair, outputs):
    theirs, ours = outputs
    shapes = pair[1].backbone.output_shape().values()
    for expected, found, shape in zip(theirs.features, ours.features, shapes, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
        assert found.shape[1] == shape.channels


def test_raw_outputs_equal_torchvision(outputs):
    for expected, found in zip(outputs[0][1:3], outputs[1][1:3], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


def test_default_boxes_equal_torchvision(outputs):
    torch.testing.assert_close(outputs[1].anchors, outputs[0].anchors)


def test_detections_equal_torchvision(outputs):
    expected, found = outputs[0].detections, outputs[1].detections
    assert len(expected["boxes"]) > 20
    torch.testing.assert_close(found["scores"], expected["scores"], rtol=1e-3, atol=1e-4)
    assert torch.equal(found["labels"], expected["labels"])
    torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=1e-3, atol=0.1)


def test_losses_equal_torchvision(pair, outputs):
    theirs, ours = pair
    _, logits, deltas, anchors, _ = outputs[0]
    # In the square that the network sees; the second object has no box of IoU 0.5.
    boxes = torch.tensor([[30.0, 40, 180, 200], [100, 90, 104, 98], [150, 10, 290, 120]])
    classes = torch.tensor([2, 0, 1])
    matches = theirs.proposal_matcher(box_iou(boxes, anchors))
    heads = {"cls_logits": logits, "bbox_regression": deltas}
    expected = theirs.compute_loss(
        [{"boxes": boxes, "labels": classes + 1}], heads, [anchors], [matches]
    )
    side = ours.image_size
    gt = Instances((side, side), gt_boxes=Boxes(boxes), gt_classes=classes)
    labels, targets = ours.label_boxes(Boxes(anchors), gt)
    found = multibox_loss(logits, deltas, labels[None], targets)
    torch.testing.assert_close(found["loss_cls"], expected["classification"])
    torch.testing.assert_close(found["loss_box_reg"], expected["bbox_regression"])


@pytest.mark.parametrize("config", MODELS)
def test_converted_classes_are_those_kept(config):
    with torch.device("meta"):
        theirs = MODELS[config](weights=None, weights_backbone=None, num_classes=4)
    weights = {
        name: torch.randn(value.shape) if "classification_head" in name else value
        for name, value in theirs.state_dict().items()
    }
    converted = convert_ssd(weights, num_classes=4, kept=[2, 1])
    changed = [name for name in weights if converted[name] is not weights[name]]
    assert len(changed) == 12  # weight and bias of six levels
    for name in changed:
        by_class = weights[name].unflatten(0, (-1, 4))  # (A, 4, ...)
        expected = torch.stack([by_class[:, 0], by_class[:, 2], by_class[:, 1]], dim=1)
        assert torch.equal(converted[name].unflatten(0, (-1, 3)), expected)


@torch.no_grad()
def test_vgg16_features_equal_torchvision():
    torch.manual_seed(0)
    theirs = models.vgg.VGG(models.vgg.make_layers(models.vgg.cfgs["D"]), num_classes=2)
    names = ["conv1", "conv2", "conv3", "conv4", "conv5"]
    ours = VGG16(names)
    ours.features.load_state_dict(theirs.features.state_dict())
    image = torch.randn(1, 3, 32, 48)
    features = ours(image)
    x = image
    expected = []
    for layer in theirs.features:
        if isinstance(layer, nn.MaxPool2d):
            expected.append(x)
        x = layer(x)
    shapes = ours.output_shape()
    for name, value in zip(names, expected, strict=True):
        torch.testing.assert_close(features[name], value)
        assert value.shape[1] == shapes[name].channels
        assert value.shape[2] * shapes[name].stride == 32
