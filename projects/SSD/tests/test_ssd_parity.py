"""SSD300, SSDLite and VGG-16 against torchvision on equal random weights."""

from pathlib import Path

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


@pytest.fixture(scope="module", params=MODELS)
def outputs(request):
    """What both models give for one image, from the features to the detections."""
    theirs, ours = make_pair(request.param)
    image = torch.randint(0, 256, (3, 200, 260), dtype=torch.uint8)
    with torch.no_grad():
        their_images, _ = theirs.transform([image / 255.0])
        their_features = list(theirs.backbone(their_images.tensors).values())
        their_heads = theirs.head(their_features)
        their_anchors = theirs.anchor_generator(their_images, their_features)
        found = theirs.postprocess_detections(their_heads, their_anchors, their_images.image_sizes)
        detections = theirs.transform.postprocess(found, their_images.image_sizes, [(200, 260)])[0]
        our_images = ours.preprocess_image([{"image": image}])
        our_features = ours.backbone(our_images.tensor)
        our_heads = ours.head(list(our_features.values()))
        our_results = ours.forward_inference(our_images, list(our_features.values()), our_heads)
    return {
        "theirs": (their_images.tensors, their_features, their_heads, their_anchors[0], detections),
        "ours": (our_images.tensor, our_features, our_heads, our_results[0]),
        "models": (theirs, ours),
        "image": image,
    }


def test_images_and_features_equal_torchvision(outputs):
    images, features, *_ = outputs["theirs"]
    our_images, our_features, *_ = outputs["ours"]
    torch.testing.assert_close(our_images, images, rtol=1e-4, atol=1e-3)
    shapes = outputs["models"][1].backbone.output_shape()
    for expected, (name, found) in zip(features, our_features.items(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
        assert found.shape[1] == shapes[name].channels


def test_raw_outputs_equal_torchvision(outputs):
    heads = outputs["theirs"][2]
    logits, deltas = outputs["models"][1]._by_box(outputs["ours"][2])
    for found, expected in ((logits, heads["cls_logits"]), (deltas, heads["bbox_regression"])):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


def test_default_boxes_equal_torchvision(outputs):
    features = list(outputs["ours"][1].values())
    anchors = outputs["models"][1].anchor_generator(features)
    torch.testing.assert_close(Boxes.cat(anchors).tensor, outputs["theirs"][3])


def test_detections_equal_torchvision(outputs):
    expected = outputs["theirs"][4]
    found = outputs["models"][1]([{"image": outputs["image"]}])[0]["instances"]
    assert len(expected["boxes"]) > 20
    assert found.image_size == (200, 260)
    torch.testing.assert_close(found.scores, expected["scores"], rtol=1e-3, atol=1e-4)
    assert torch.equal(found.pred_classes, expected["labels"] - 1)
    torch.testing.assert_close(found.pred_boxes.tensor, expected["boxes"], rtol=1e-3, atol=0.1)


def test_losses_equal_torchvision(outputs):
    theirs, ours = outputs["models"]
    heads, anchors = outputs["theirs"][2:4]
    # In the square that the network sees; the second object has no box of IoU 0.5.
    boxes = torch.tensor([[30.0, 40, 180, 200], [100, 90, 104, 98], [150, 10, 290, 120]])
    classes = torch.tensor([2, 0, 1])
    matches = theirs.proposal_matcher(box_iou(boxes, anchors))
    expected = theirs.compute_loss(
        [{"boxes": boxes, "labels": classes + 1}], heads, [anchors], [matches]
    )
    side = ours.image_size
    gt = Instances((side, side), gt_boxes=Boxes(boxes), gt_classes=classes)
    labels, deltas = ours.label_boxes(Boxes(anchors), gt)
    found = multibox_loss(heads["cls_logits"], heads["bbox_regression"], labels[None], deltas)
    torch.testing.assert_close(found["loss_cls"], expected["classification"])
    torch.testing.assert_close(found["loss_box_reg"], expected["bbox_regression"])


@pytest.mark.parametrize("config", MODELS)
def test_converted_classes_are_those_kept(config):
    """Class 2 and 1 of three: their scores must be those of the full model."""
    theirs = MODELS[config](weights=None, weights_backbone=None, num_classes=4)
    weights = theirs.state_dict()
    converted = convert_ssd(weights, num_classes=4, kept=[2, 1])
    for name, value in weights.items():
        if converted[name] is value:
            continue
        by_class = value.unflatten(0, (-1, 4))
        expected = torch.stack([by_class[:, 0], by_class[:, 2], by_class[:, 1]], dim=1)
        assert torch.equal(converted[name].unflatten(0, (-1, 3)), expected)
    changed = [name for name in weights if converted[name] is not weights[name]]
    assert len(changed) == 12  # weight and bias of six levels
    assert all(weights[name].shape[0] % 4 == 0 for name in changed)


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
