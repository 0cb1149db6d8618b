"""The wrappers around modules with the interface of mmdet 2; mmdet itself is not needed."""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from d2lite.layers import ShapeSpec
from d2lite.modeling import MMDetBackbone, MMDetDetector
from d2lite.structures import BitMasks, Boxes, Instances, PolygonMasks
from tests.modeling.tiny import PIXELS, image, target

SHAPES = [ShapeSpec(channels=3, stride=1), ShapeSpec(channels=3, stride=2)]


class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.initialized = False

    def init_weights(self):
        self.initialized = True

    def forward(self, x):
        return x, x[..., ::2, ::2]


class Double(Pyramid):
    def forward(self, levels):
        return [2 * x for x in levels]


class Detector(nn.Module):
    """Remembers how it was called; finds one box of class 0 and two of class 1."""

    def __init__(self, masks: bool = False):
        super().__init__()
        self.masks = masks

    def init_weights(self):
        self.call = None

    def simple_test(self, images, metas, rescale):
        self.call = (images.shape, metas, rescale)
        boxes = [np.array([[0, 0, 4, 4, 0.5]]), np.array([[1, 1, 5, 5, 0.9], [2, 2, 6, 6, 0.8]])]
        if not self.masks:
            return [boxes] * len(metas)
        size = metas[0]["ori_shape"][:2]
        masks = [[np.ones(size, bool)], [np.zeros(size, bool)] * 2]
        return [(boxes, masks)] * len(metas)

    def forward_train(self, images, metas, gt_boxes, gt_classes, gt_masks=None):
        self.call = (gt_boxes, gt_classes, gt_masks)
        level = torch.tensor([1.0, 3.0], requires_grad=True)
        return {"loss_cls": [level, level], "loss_bbox": level, "acc": torch.tensor(0.5)}


def test_backbone_and_neck_give_named_features():
    backbone = MMDetBackbone(Pyramid(), Double(), output_shapes=SHAPES, output_names=["a", "b"])
    features = backbone(torch.ones(1, 3, 4, 4))
    assert list(features) == ["a", "b"]
    assert torch.equal(features["b"], torch.full((1, 3, 2, 2), 2.0))
    assert backbone.output_shape() == dict(zip("ab", SHAPES, strict=True))
    assert backbone.backbone.initialized and backbone.neck.initialized


def test_names_have_a_default_and_parts_of_a_sequential_neck_are_initialized():
    neck = nn.Sequential(Double(), Double())
    backbone = MMDetBackbone(Pyramid(), neck, output_shapes=SHAPES)
    assert list(backbone(torch.ones(1, 3, 4, 4))) == ["out0", "out1"]
    assert all(part.initialized for part in neck)


def test_another_number_of_outputs_is_refused():
    backbone = MMDetBackbone(Pyramid(), output_shapes=SHAPES[:1])
    with pytest.raises(ValueError, match="returned 2, expected a list of 1"):
        backbone(torch.ones(1, 3, 4, 4))


def test_configs_need_mmdet(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmcv", None)
    with pytest.raises(ImportError, match="building a backbone from an mmdet config"):
        MMDetBackbone({"type": "ResNet"}, output_shapes=SHAPES)


def test_configs_go_to_mmdet_as_plain_containers(monkeypatch):
    seen = []
    models = types.SimpleNamespace(build_detector=lambda config: seen.append(config) or Detector())
    monkeypatch.setitem(sys.modules, "mmcv", types.SimpleNamespace(ConfigDict=dict))
    monkeypatch.setitem(sys.modules, "mmdet", types.SimpleNamespace(models=models))
    MMDetDetector({"type": "X", "sizes": (1, (2, 3))}, **PIXELS)
    assert seen == [{"type": "X", "sizes": [1, [2, 3]]}]


def test_detections_come_back_as_instances_of_the_wanted_size():
    model = MMDetDetector(Detector(), **PIXELS).eval()
    (x,) = model([{"image": image(40, 50), "height": 80, "width": 200}])
    found = x["instances"]
    assert found.image_size == (80, 200)
    assert found.pred_classes.tolist() == [0, 1, 1]
    assert found.scores.tolist() == pytest.approx([0.5, 0.9, 0.8])
    assert found.pred_boxes.tensor[2].tolist() == [2, 2, 6, 6]
    shape, (meta,), rescale = model.detector.call
    assert shape == (1, 3, 64, 64) and rescale
    assert meta["scale_factor"].tolist() == [0.25, 0.5, 0.25, 0.5]
    assert meta["img_shape"] == (40, 50, 3) and meta["ori_shape"] == (80, 200, 3)
    assert meta["pad_shape"] == (64, 64, 3) and meta["flip"] is False


def test_without_a_wanted_size_nothing_is_rescaled():
    model = MMDetDetector(Detector(masks=True), **PIXELS).eval()
    (x,) = model([{"image": image(40, 50)}])
    assert not model.detector.call[2] and x["instances"].image_size == (40, 50)
    assert x["instances"].pred_masks.any(dim=2).any(dim=1).tolist() == [True, False, False]
    with pytest.raises(ValueError, match="either all inputs or none"):
        model([{"image": image()}, {"image": image(), "height": 1, "width": 1}])


def test_losses_are_averaged_and_other_figures_are_none():
    model = MMDetDetector(Detector(), **PIXELS)
    plain = Instances((48, 64), gt_boxes=Boxes([[1, 2, 3, 4]]), gt_classes=torch.tensor([2]))
    losses = model([{"image": image(), "instances": plain}])
    assert {name: loss.item() for name, loss in losses.items()} == {"loss_cls": 4, "loss_bbox": 2}
    boxes, classes, masks = model.detector.call
    assert boxes[0].tolist() == [[1, 2, 3, 4]] and classes[0].tolist() == [2] and masks is None


def test_masks_go_to_mmdet_in_its_own_classes(monkeypatch):
    core = types.ModuleType("mmdet.core")
    core.BitmapMasks = lambda masks, height, width: ("bitmaps", masks.shape, height, width)
    core.PolygonMasks = lambda masks, height, width: ("polygons", len(masks), height, width)
    monkeypatch.setitem(sys.modules, "mmdet", types.ModuleType("mmdet"))
    monkeypatch.setitem(sys.modules, "mmdet.core", core)
    model = MMDetDetector(Detector(), **PIXELS)
    polygons = target()
    assert isinstance(polygons.gt_masks, BitMasks)
    polygons.gt_masks = PolygonMasks([[[0, 0, 9, 0, 9, 9]]])
    model([{"image": image(), "instances": x} for x in (target(), polygons)])
    assert model.detector.call[2] == [("bitmaps", (1, 48, 64), 48, 64), ("polygons", 1, 48, 64)]


def test_a_loss_of_another_type_is_refused(monkeypatch):
    model = MMDetDetector(Detector(), **PIXELS)
    monkeypatch.setattr(model.detector, "forward_train", lambda *args, **kwargs: {"loss": 1.0})
    without_masks = Instances((48, 64), gt_boxes=Boxes([]), gt_classes=torch.zeros(0).long())
    with pytest.raises(ValueError, match="loss 'loss' is a float"):
        model([{"image": image(), "instances": without_masks}])
