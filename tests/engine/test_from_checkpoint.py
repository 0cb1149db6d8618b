"""A checkpoint contains what it takes to use it: config, class names, version."""

import importlib.util
import re
import shutil

import cv2
import numpy as np
import pytest
import torch

import d2lite
from d2lite.checkpoint import Checkpointer, DetectionCheckpointer, read_about, require_loaded
from d2lite.checkpoint.resuming import ResumeError
from d2lite.config import get_cfg
from d2lite.data import DatasetCatalog, Metadata, MetadataCatalog
from d2lite.engine import (
    DefaultPredictor,
    DefaultTrainer,
    config_from_args,
    config_from_checkpoint,
    default_argument_parser,
)
from d2lite.engine.from_checkpoint import weights_of_run, weights_to_load
from d2lite.modeling import build_model
from d2lite.structures import Boxes, Instances
from tests.engine.tiny import ROOT, tiny_cfg

CLASSES = ["apple", "pear", "quince"]
COLORS = [(1, 2, 3), (4, 5, 6), (7, 8, 9)]


def draw(folder):
    """Two photographs with a bright square, as dataset dicts."""
    folder.mkdir()
    for i in range(2):
        image = np.zeros((64, 80, 3), np.uint8)
        image[10:40, 10:40] = 200
        cv2.imwrite(str(folder / f"{i}.png"), image)
    box = {"bbox": [10, 10, 40, 40], "bbox_mode": 0, "category_id": 1}
    return [
        {"file_name": str(folder / f"{i}.png"), "image_id": i, "height": 64, "width": 80}
        | {"annotations": [dict(box)]}
        for i in range(2)
    ]


@pytest.fixture(scope="module")
def orchard(tmp_path_factory):
    """The files of a run whose dataset and photographs are gone."""
    folder = tmp_path_factory.mktemp("run")
    records = draw(folder / "photos")
    DatasetCatalog.register("orchard", lambda: records)
    MetadataCatalog.get("orchard").set(thing_classes=CLASSES, thing_colors=COLORS)
    changes = {"DATASETS__TRAIN": ("orchard",), "SOLVER__MAX_ITER": 1, "SOLVER__STEPS": ()}
    DefaultTrainer(tiny_cfg(folder, MODEL_EMA__ENABLED=True, **changes)).train()
    shutil.rmtree(folder / "photos")
    DatasetCatalog.remove("orchard")
    MetadataCatalog.remove("orchard")
    return folder


@pytest.fixture(autouse=True)
def no_orchard():
    yield
    MetadataCatalog.data.pop("orchard", None)


@pytest.mark.parametrize("name", ["model_final.pth", "model_final_ema.pth"])
def test_checkpoints_contain_config_names_and_version(orchard, name):
    checkpoint = torch.load(orchard / name, weights_only=True)
    about = checkpoint["about"]
    assert about["version"] == d2lite.__version__
    assert about["metadata"] == {"thing_classes": CLASSES, "thing_colors": COLORS}
    assert about["config"]["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] == 3  # not -1
    assert read_about(orchard / name) == about


def test_weights_alone_detect_with_class_names(orchard, tmp_path, monkeypatch):
    shutil.copy(orchard / "model_final.pth", tmp_path)
    monkeypatch.chdir(tmp_path)
    predictor = DefaultPredictor("model_final.pth")
    assert predictor.metadata.thing_classes == CLASSES
    assert predictor.metadata.thing_colors == COLORS
    # Where programs for detectron2 look for the names.
    assert MetadataCatalog.get(predictor.cfg.DATASETS.TRAIN[0]).thing_classes == CLASSES
    predictor.model.roi_heads.box_predictor.test_score_thresh = 0.0
    found = predictor(np.zeros((64, 80, 3), np.uint8))["instances"]
    assert len(found) > 0
    expected = torch.load("model_final.pth", weights_only=True)["model"]
    got = predictor.model.state_dict()
    assert all(torch.equal(got[name], expected[name]) for name in got)
    # Saved again, they stay complete.
    MetadataCatalog.data.pop("orchard")
    DetectionCheckpointer(predictor.model, str(tmp_path)).save("copy")
    assert read_about(tmp_path / "copy.pth")["metadata"]["thing_classes"] == CLASSES


def test_paths_and_devices_of_the_machine_that_trained_are_left_out(orchard):
    cfg = config_from_checkpoint(orchard / "model_final.pth", ["TEST.DETECTIONS_PER_IMAGE", "7"])
    here = get_cfg()
    assert str(orchard / "model_final.pth") == cfg.MODEL.WEIGHTS
    assert (cfg.OUTPUT_DIR, cfg.MODEL.DEVICE) == (here.OUTPUT_DIR, here.MODEL.DEVICE)
    assert cfg.INPUT.MIN_SIZE_TEST == 64
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 7
    with pytest.raises(KeyError):
        cfg.merge_from_list(["NO.SUCH_KEY", 1])


@pytest.mark.parametrize("given", [["--eval-only"], []])
def test_command_lines_without_a_config_file_take_the_checkpoints(orchard, given):
    weights = ["MODEL.WEIGHTS", str(orchard / "model_final.pth")]
    args = default_argument_parser().parse_args([*given, *weights])
    from_weights = config_from_args(args).MODEL.ROI_BOX_HEAD.FC_DIM == 32
    assert from_weights == bool(given)  # a training starts from the defaults
    args = default_argument_parser().parse_args([*given, "--resume", "OUTPUT_DIR", str(orchard)])
    assert (config_from_args(args).MODEL.ROI_BOX_HEAD.FC_DIM == 32) == bool(given)


def test_counts_of_minus_one_are_the_checkpoints(orchard):
    weights = str(orchard / "model_final.pth")
    cfg = tiny_cfg("", MODEL__WEIGHTS=weights, DATASETS__TRAIN=("gone",))
    assert DefaultPredictor(cfg).cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3


def test_another_class_count_is_an_error_that_names_both(orchard):
    weights = str(orchard / "model_final.pth")
    cfg = tiny_cfg("", MODEL__WEIGHTS=weights, MODEL__ROI_HEADS__NUM_CLASSES=2)
    told = r"NUM_CLASSES is 2, .*model_final.pth was trained with 3 \(apple, pear, quince\); set"
    with pytest.raises(ValueError, match=told):
        DefaultPredictor(cfg)


@pytest.fixture
def foreign(orchard, tmp_path):
    """The same weights as detectron2 would have saved them."""
    checkpoint = torch.load(orchard / "model_final.pth", weights_only=True)
    del checkpoint["about"]
    torch.save(checkpoint, tmp_path / "foreign.pth")
    return str(tmp_path / "foreign.pth")


def test_checkpoints_of_others_load_with_their_config(foreign):
    cfg = tiny_cfg("", MODEL__WEIGHTS=foreign, MODEL__ROI_HEADS__NUM_CLASSES=3, DATASETS__TRAIN=())
    assert not hasattr(DefaultPredictor(cfg).metadata, "thing_classes")
    with pytest.raises(ValueError, match=r"foreign.pth contains no config .*--config-file"):
        DefaultPredictor(foreign)


def test_a_head_of_another_shape_is_not_evaluated_but_may_be_trained(foreign):
    cfg = tiny_cfg("", MODEL__WEIGHTS=foreign, MODEL__ROI_HEADS__NUM_CLASSES=2)
    told = r"do not fit the model: \S+cls_score.weight \(4, 32\) in the checkpoint, \(3, 32\) in"
    with pytest.raises(ValueError, match=told):
        DefaultPredictor(cfg)
    model = build_model(cfg)
    DetectionCheckpointer(model).load(foreign)
    with pytest.raises(ValueError, match=told):
        DefaultTrainer.test(cfg, model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    require_loaded(model)  # it has learned since


def test_a_weights_file_does_not_choose_what_is_imported(orchard, tmp_path):
    checkpoint = torch.load(orchard / "model_final.pth", weights_only=True)
    checkpoint["about"]["config"]["PROJECTS"] = ["antigravity"]
    torch.save(checkpoint, tmp_path / "bad.pth")
    with pytest.raises(ImportError, match=r"PROJECTS names 'antigravity', which is not under"):
        config_from_checkpoint(tmp_path / "bad.pth")


def test_one_command_names_and_draws_what_it_finds(orchard, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("predict_under_test", ROOT / "tools/predict.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((64, 80, 3), np.uint8))
    weights = ["--weights", str(orchard / "model_final.pth")]
    places = ["--output-dir", str(tmp_path / "found"), str(tmp_path / "photo.png")]
    tool.main([*weights, "--score", "0", *places, "--opts", *["TEST.DETECTIONS_PER_IMAGE", "5"]])
    out = capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "found/photo_detections.jpg")).shape == (64, 80, 3)
    assert re.search(r"\n  (apple|pear|quince)  0\.\d+  box [\d. ]+\n", out)


def test_a_resumed_run_says_what_it_takes_from_the_checkpoint(tmp_path, caplog):
    def start(resume, **changes):
        trainer = DefaultTrainer(tiny_cfg(tmp_path, SOLVER__STEPS=(), **changes))
        trainer.resume_or_load(resume=resume)
        trainer.train()

    start(False, SOLVER__MAX_ITER=1)
    caplog.set_level("INFO")
    start(True, SOLVER__MAX_ITER=2, SOLVER__BASE_LR=0.5, SEED=8)
    told = caplog.text
    assert (
        "the optimizer's initial_lr from the checkpoint, 0.002, and not the current setting, 0.5"
        in told
    )
    assert "the SEED from the checkpoint, 3, and not the current setting, 8" in told
    assert "SOLVER.BASE_LR is 0.5, was 0.002; SOLVER.MAX_ITER is 2, was 1" in told
    with pytest.raises(ResumeError, match=r"cls_score.weight is \(7, 32\) in the checkpoint and"):
        start(True, MODEL__ROI_HEADS__NUM_CLASSES=9)


def test_an_evaluation_maps_the_checkpoints_classes_by_name(orchard, tmp_path, monkeypatch):
    records = draw(tmp_path / "photos")  # of a pear, which is class 1 of the model
    for record in records:
        record["annotations"][0]["category_id"] = 0
    monkeypatch.setitem(DatasetCatalog.data, "market", lambda: records)
    metadata = Metadata(name="market", thing_classes=["pear", "plum"], evaluator_type="coco")
    monkeypatch.setitem(MetadataCatalog.data, "market", metadata)
    weights = str(orchard / "model_final.pth")
    opts = ["OUTPUT_DIR", str(tmp_path), "DATASETS.TEST", ("market",)]
    cfg = config_from_checkpoint(weights, opts)
    model = build_model(cfg)
    DetectionCheckpointer(model).load(weights)

    def find(images):  # a pear and an apple
        found = Instances((64, 80))
        found.pred_boxes = Boxes(torch.tensor([[10.0, 10, 40, 40], [0, 0, 9, 9]]))
        found.scores, found.pred_classes = torch.tensor([0.9, 0.8]), torch.tensor([1, 0])
        return [{"instances": found} for _ in images]

    monkeypatch.setattr(model, "forward", find)
    results = DefaultTrainer.test(cfg, model)["bbox"]
    assert results["AP-pear"] == pytest.approx(100)
    assert np.isnan(results["AP-plum"])  # there is none in the pictures


def test_classes_come_from_the_checkpoint_that_can_be_read(tmp_path, caplog):
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = str(tmp_path), "initial.pth"
    assert weights_to_load(cfg, resume=True) == "initial.pth"
    checkpointer = Checkpointer(torch.nn.Linear(1, 1), str(tmp_path))
    for name in ("model_0000001", "model_0000003"):
        checkpointer.save(name)
    newest = tmp_path / "model_0000003.pth"
    assert weights_to_load(cfg, resume=True) == str(newest)
    newest.write_bytes(newest.read_bytes()[:500])
    assert weights_to_load(cfg, resume=True) == str(tmp_path / "model_0000001.pth")
    assert f"{newest} is damaged" in caplog.text
    assert weights_to_load(cfg, resume=False) == "initial.pth"


def test_best_weights_of_a_run(tmp_path):
    assert weights_of_run("model.pth") == "model.pth"
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        weights_of_run(str(tmp_path))
    for name in ("model_0000001.pth", "model_final.pth", "model_best.pth"):
        (tmp_path / name).write_bytes(b"")
        (tmp_path / "last_checkpoint").write_text(name)
        assert weights_of_run(str(tmp_path)) == str(tmp_path / name)
