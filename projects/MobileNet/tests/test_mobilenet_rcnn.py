"""The configs, and Faster R-CNN against torchvision's composition on equal random weights."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from d2lite.modeling import build_model
from d2lite.projects.mobilenet import TorchvisionAnchorGenerator, convert_faster_rcnn
from d2lite.structures import Boxes, Instances
from tests.project_checks import project_config

CONFIGS = Path(__file__).parents[1] / "configs"
HEIGHT, WIDTH = 96, 128
WIDTH_MULT = 0.25


def load_config(name: str, *opts):
    return project_config(CONFIGS / name, *opts)


def random_image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)


def torchvision_model() -> FasterRCNN:
    """As torchvision's tutorial composes it; narrow, and with statistics that matter."""
    torch.manual_seed(1)
    backbone = mobilenet_v2(width_mult=WIDTH_MULT).features
    backbone.out_channels = 1280
    model = FasterRCNN(
        backbone,
        num_classes=4,
        rpn_anchor_generator=AnchorGenerator(((32, 64, 128, 256),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(featmap_names=["0"], output_size=7, sampling_ratio=2),
        min_size=HEIGHT,
        max_size=WIDTH,
        box_score_thresh=0.45,
    ).eval()
    _calibrate_norms(backbone)
    # Untrained, all scores would be nearly equal, and their order chance; so it is where large
    # logits saturate torchvision's sigmoid.
    nn.init.normal_(model.rpn.head.cls_logits.weight, std=0.02)
    nn.init.normal_(model.rpn.head.bbox_pred.weight, std=0.02)
    predictor = model.roi_heads.box_predictor
    nn.init.normal_(predictor.cls_score.weight, std=0.1)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.1)
    predictor.cls_score.bias.data[0] = -20  # of the background: some class always wins
    return model


def _calibrate_norms(network: nn.Module) -> None:
    """Give norms the statistics of a batch, so that features neither fade nor explode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 3, HEIGHT, WIDTH))
    network.eval()


@pytest.fixture(scope="module")
def both():
    theirs = torchvision_model()
    cfg = load_config(
        "faster_rcnn_mobilenet_v2.yaml",
        *("MODEL.MOBILENET.WIDTH_MULT", WIDTH_MULT),
        *("MODEL.ROI_HEADS.NUM_CLASSES", 3, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.45),
    )
    ours = build_model(cfg).eval()
    ours.load_state_dict(convert_faster_rcnn(theirs.state_dict()))
    return theirs, ours


@torch.no_grad()
def test_faster_rcnn_equals_torchvision(both):
    theirs, ours = both
    image = random_image()
    expected = theirs([image / 255.0])[0]
    found = ours([{"image": image}])[0]["instances"]
    assert 5 <= len(expected["boxes"]) < 100
    torch.testing.assert_close(found.scores, expected["scores"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.pred_boxes.tensor, expected["boxes"], rtol=1e-4, atol=2e-2)
    assert torch.equal(found.pred_classes, expected["labels"] - 1)


@torch.no_grad()
def test_proposals_equal_torchvision(both):
    theirs, ours = both
    image = random_image()
    images, _ = theirs.transform([image / 255.0])
    expected, _ = theirs.rpn(images, {"0": theirs.backbone(images.tensors)})
    our_images = ours.preprocess_image([{"image": image}])
    found, _ = ours.proposal_generator(our_images, ours.backbone(our_images.tensor))
    assert len(expected[0]) >= 5
    torch.testing.assert_close(found[0].proposal_boxes.tensor, expected[0], rtol=1e-4, atol=2e-2)


def test_anchors_equal_torchvision():
    sizes, ratios = (32, 50, 128, 256), (0.5, 1.0, 2.0)
    theirs = AnchorGenerator((sizes,), (ratios,)).cell_anchors[0]
    ours = TorchvisionAnchorGenerator(sizes=[sizes], aspect_ratios=[ratios], strides=[32])
    torch.testing.assert_close(next(iter(ours.cell_anchors)), theirs, rtol=0, atol=0)


def test_older_names_of_the_rpn_convolution():
    converted = convert_faster_rcnn({"rpn.head.conv.weight": torch.zeros(1)})
    assert list(converted) == ["proposal_generator.rpn_head.conv.weight"]


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_configs_can_be_read(config):
    assert list(load_config(config).PROJECTS) == ["mobilenet"]


@pytest.mark.parametrize("config", ["faster_rcnn_mobilenet_v2.yaml", "shapes_FPN.yaml"])
def test_models_train(config):
    cfg = load_config(
        config,
        *("MODEL.MOBILENET.WIDTH_MULT", WIDTH_MULT, "MODEL.ROI_HEADS.NUM_CLASSES", 3),
        *("MODEL.ROI_BOX_HEAD.FC_DIM", 8),
    )
    model = build_model(cfg).train()
    target = Instances((64, 64), gt_boxes=Boxes([[8.0, 8, 40, 40]]), gt_classes=torch.tensor([1]))
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    losses = model([{"image": image, "instances": target}] * 2)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert next(model.backbone.parameters()).grad.abs().sum() > 0
