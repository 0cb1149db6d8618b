import pytest
import torch

from d2lite.config import get_cfg
from d2lite.export import export_program, program
from d2lite.export.program import detect
from d2lite.modeling import build_model
from tests.modeling import tiny

needs_new_torch = pytest.mark.skipif(
    program.TORCH_VERSION < program.OLDEST_TORCH, reason="this torch cannot export a detector"
)


def small_config(meta_architecture):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = meta_architecture
    cfg.MODEL.BACKBONE.NAME = "build_tiny_backbone"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32]]
    cfg.MODEL.RPN.IN_FEATURES = ["p3", "p4"]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 50
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.RETINANET.IN_FEATURES = ["p3", "p4"]
    cfg.MODEL.RETINANET.NUM_CLASSES = 3
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3", "p4"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 8
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 4
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 4
    cfg.TEST.DETECTIONS_PER_IMAGE = 10
    return cfg


def small_model(meta_architecture, masks=False):
    cfg = small_config(meta_architecture)
    cfg.MODEL.MASK_ON = masks
    return build_model(cfg).eval()


def found_by_the_model(model, image):
    with torch.no_grad():
        return detect(model, image)


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(torch.as_tensor(got[name]), value, rtol=1e-4, atol=1e-3)


@needs_new_torch
@pytest.mark.parametrize(
    "name, masks",
    [("GeneralizedRCNN", False), ("GeneralizedRCNN", True), ("RetinaNet", False)],
)
def test_program_finds_what_the_model_finds(name, masks):
    model = small_model(name, masks)
    exported = export_program(model, tiny.image().float())
    assert ("pred_masks" in exported.output_names) == masks
    other = tiny.image().float()  # of the same size, with other objects
    expected = found_by_the_model(model, other)
    assert len(expected["scores"]) > 0
    assert_same(exported(other), expected)


@needs_new_torch
def test_saved_program_and_onnx_model_find_what_the_model_finds(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, image = small_model("GeneralizedRCNN"), tiny.image().float()
    exported = export_program(model, image)
    expected = found_by_the_model(model, image)

    exported.save(str(tmp_path / "detector.pt2"))
    loaded = torch.export.load(tmp_path / "detector.pt2").module()
    assert_same(dict(zip(exported.output_names, loaded(image), strict=True)), expected)

    exported.save_onnx(str(tmp_path / "detector.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "detector.onnx")
    found = session.run(exported.output_names, {"image": image.numpy()})
    assert_same(dict(zip(exported.output_names, found, strict=True)), expected)


def test_old_torch_is_refused(monkeypatch):
    monkeypatch.setattr(program, "TORCH_VERSION", (2, 8))
    with pytest.raises(RuntimeError, match=r"needs torch 2\.10 or newer"):
        export_program(small_model("RetinaNet"), tiny.image())


def test_training_mode_is_refused(monkeypatch):
    monkeypatch.setattr(program, "TORCH_VERSION", program.OLDEST_TORCH)
    model = small_model("RetinaNet").train()
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        export_program(model, tiny.image())
