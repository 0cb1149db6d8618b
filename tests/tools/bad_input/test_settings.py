"""Errors of train_net.py for invalid settings."""

import re

import pytest

from tests.tools.bad_input.runs import train_on

BAD_SETTINGS = {
    "backbone": (
        {"MODEL__BACKBONE__NAME": "build_resnet_fpn_backbon"},
        r"MODEL\.BACKBONE\.NAME: No object named 'build_resnet_fpn_backbon'.* "
        r"Did you mean 'build_resnet_fpn_backbone'",
    ),
    "meta architecture": (
        {"MODEL__META_ARCHITECTURE": "GeneralisedRCNN"},
        r"MODEL\.META_ARCHITECTURE: .*'GeneralisedRCNN'.* Did you mean 'GeneralizedRCNN'\?$",
    ),
    "proposal generator": (
        {"MODEL__PROPOSAL_GENERATOR__NAME": "RPNN"},
        r"MODEL\.PROPOSAL_GENERATOR\.NAME: .*'RPNN'.* Did you mean 'RPN'",
    ),
    "ROI heads": (
        {"MODEL__ROI_HEADS__NAME": "StandardROIHead"},
        r"MODEL\.ROI_HEADS\.NAME: .* Did you mean 'StandardROIHeads'",
    ),
    "box head": (
        {"MODEL__ROI_BOX_HEAD__NAME": "FastRCNNConvFC"},
        r"MODEL\.ROI_BOX_HEAD\.NAME: .* Did you mean 'FastRCNNConvFCHead'",
    ),
    "features of the FPN": (
        {"MODEL__FPN__IN_FEATURES": ["res3", "res4", "res6"]},
        r"MODEL\.FPN\.IN_FEATURES asks for feature 'res6', but the backbone has \['res3', ",
    ),
    "features of the RPN": (
        {"MODEL__RPN__IN_FEATURES": ["p3", "p9"]},
        r"MODEL\.RPN\.IN_FEATURES asks for feature 'p9', but .* \['p3', 'p4', 'p5', 'p6'\]",
    ),
    "features of the ROI heads": (
        {"MODEL__ROI_HEADS__IN_FEATURES": ["p3", "p9"]},
        r"MODEL\.ROI_HEADS\.IN_FEATURES asks for feature 'p9'",
    ),
    "features of the ResNet": (
        {"MODEL__RESNETS__OUT_FEATURES": ["res3", "res9"]},
        r"MODEL\.RESNETS\.OUT_FEATURES is \['res3', 'res9'\]; use one or more of \['stem', 'res2'",
    ),
    "anchors": (
        {"MODEL__ANCHOR_GENERATOR__SIZES": [[16], [32]]},
        r"MODEL\.ANCHOR_GENERATOR\.SIZES has 2 lists for 4 feature maps",
    ),
    "optimizer": (
        {"SOLVER__OPTIMIZER_NAME": "SDG"},
        r"SOLVER\.OPTIMIZER_NAME is 'SDG'; use one of \['AdamW', 'SGD'\]\. Did you mean 'SGD'",
    ),
    "schedule": (
        {"SOLVER__LR_SCHEDULER_NAME": "WarmupCosine"},
        r"SOLVER\.LR_SCHEDULER_NAME is 'WarmupCosine'; .* Did you mean 'WarmupCosineLR'",
    ),
    "warm-up": (
        {"SOLVER__WARMUP_METHOD": "lin"},
        r"SOLVER\.WARMUP_METHOD\) is 'lin'; use one of \['linear'",
    ),
    "sampler": (
        {"DATALOADER__SAMPLER_TRAIN": "Sampler"},
        r"DATALOADER\.SAMPLER_TRAIN is 'Sampler'; use one of \['Random",
    ),
    "bad sample policy": (
        {"DATALOADER__ON_BAD_SAMPLE": "ignore"},
        r"DATALOADER\.ON_BAD_SAMPLE is 'ignore'; use 'raise' or 'skip'",
    ),
    "precision": (
        {"SOLVER__AMP__ENABLED": True, "SOLVER__AMP__DTYPE": "fp16"},
        r"SOLVER\.AMP\.DTYPE is 'fp16'; use one of \['bfloat16', 'float16'\]",
    ),
    "empty batch": ({"SOLVER__IMS_PER_BATCH": 0}, r"SOLVER\.IMS_PER_BATCH is 0; .* 1 or more"),
    "negative batch": ({"SOLVER__IMS_PER_BATCH": -2}, r"SOLVER\.IMS_PER_BATCH is -2; .* 1 or more"),
    "negative length": ({"SOLVER__MAX_ITER": -1}, r"SOLVER\.MAX_ITER is -1; .* 1 or more"),
    "negative rate": ({"SOLVER__BASE_LR": -0.1}, r"SOLVER\.BASE_LR is -0\.1; .* 0 or more"),
    "negative workers": (
        {"DATALOADER__NUM_WORKERS": -1},
        r"DATALOADER\.NUM_WORKERS is -1; .* 0 or",
    ),
    "negative keep": ({"SOLVER__CHECKPOINT_KEEP": -1}, r"SOLVER\.CHECKPOINT_KEEP is -1; .* 0 or"),
    "steps": ({"SOLVER__STEPS": (-1, 1)}, r"SOLVER\.STEPS is \(-1, 1\); it must be ascending"),
    "no size": ({"INPUT__MIN_SIZE_TRAIN": ()}, r"INPUT\.MIN_SIZE_TRAIN is \(\); expected one or"),
    "negative size": ({"INPUT__MIN_SIZE_TRAIN": (-5,)}, r"INPUT\.MIN_SIZE_TRAIN is \(-5,\); "),
    "one size for a range": (
        {"INPUT__MIN_SIZE_TRAIN_SAMPLING": "range"},
        r"INPUT\.MIN_SIZE_TRAIN is \(64,\); .*'range' needs the minimum and the maximum",
    ),
    "sampling of sizes": (
        {"INPUT__MIN_SIZE_TRAIN_SAMPLING": "any"},
        r"INPUT\.MIN_SIZE_TRAIN_SAMPLING is 'any'; use 'choice' or 'range'",
    ),
    "image format": ({"INPUT__FORMAT": "GBR"}, r"INPUT\.FORMAT is 'GBR'; use 'BGR', 'RGB'"),
    "flip": (
        {"INPUT__RANDOM_FLIP": "both"},
        r"INPUT\.RANDOM_FLIP is 'both'; use one of \['none'",
    ),
    "device": ({"MODEL__DEVICE": "gpu"}, r"MODEL\.DEVICE is 'gpu'; use 'cpu', 'cuda'"),
    "absent device": (
        {"MODEL__DEVICE": "cuda:99"},
        r"MODEL\.DEVICE is 'cuda:99', but torch .* finds \d+ cuda devices here; set MODEL\.DEVICE",
    ),
    "metric that is not evaluated": (
        {"TEST__BEST_METRIC": "bbox/AP"},
        r"TEST\.BEST_METRIC is 'bbox/AP', but DATASETS\.TEST is empty, so it is never evaluated",
    ),
    "patience without a metric": (
        {"TEST__PATIENCE": 2, "TEST__EVAL_PERIOD": 5},
        r"TEST\.PATIENCE is 2, .* but TEST\.BEST_METRIC is '' and TEST\.EVAL_PERIOD 5; set them",
    ),
    "patience below 0": ({"TEST__PATIENCE": -1}, r"TEST\.PATIENCE is -1; it must be 0 or more"),
    "project": (
        {"PROJECTS": ["no_such_project"]},
        r"PROJECTS names 'no_such_project', which is neither under \S*projects nor importable\.",
    ),
    "masks": (
        {"MODEL__MASK_ON": True},
        r"MODEL\.MASK_ON is True, but 4 of the 4 annotations have no .segmentation'",
    ),
    "keypoints": (
        {"MODEL__KEYPOINT_ON": True},
        r"no image of .* has annotations with 1 visible keypoints; see MODEL\.KEYPOINT_ON",
    ),
    "too few classes": (
        {"MODEL__ROI_HEADS__NUM_CLASSES": 1},
        r"MODEL\.ROI_HEADS\.NUM_CLASSES is 1, but coco:\S+ has 2 thing_classes \(cat, dog\); set ",
    ),
    "no dataset": (
        {"DATASETS__TRAIN": "()"},
        r"NUM_CLASSES is -1, .* DATASETS\.TRAIN and DATASETS\.TEST are empty; name a dataset",
    ),
    "dataset without brackets": (
        {"DATASETS__TRAIN": "shapes_train"},
        r"DATASETS\.TRAIN is 'shapes_train' \(str\), but must be tuple.*; write \('shapes_tr",
    ),
}


@pytest.mark.parametrize("changes, message", BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_bad_settings(main, good, changes, message):
    outcome = main(**{**train_on(good), **changes})
    assert outcome.code == 1 and not outcome.started
    assert re.search(message, outcome.error), outcome.error


@pytest.mark.parametrize(
    "extra, message",
    [
        (["SOLVER.BASE_LRR", "0.1"], r"no config key 'SOLVER\.BASE_LRR'\. .*'SOLVER\.BASE_LR'\?$"),
        (["SOLVER.MAX_ITER", "many"], r"SOLVER\.MAX_ITER is 'many' \(str\), but must be int"),
        (["SOLVER.MAX_ITER"], r"pairs of KEY VALUE, but SOLVER\.MAX_ITER has no value"),
        (["SOLVER.MAX_ITER", "SEED", "1"], r"pairs of KEY VALUE, but SOLVER\.MAX_ITER has no val"),
        (["SOLVER", "1"], r"SOLVER is 1, but it is a group of keys: set SOLVER\."),
    ],
)
def test_bad_overrides(main, extra, message):
    outcome = main(extra=extra)
    assert outcome.code == 1
    assert re.search(message, outcome.error), outcome.error


@pytest.mark.parametrize(
    "text, message",
    [
        ("SOLVER: {BASE_LRR: 0.1}", r"bad\.yaml: there is no config key 'SOLVER\.BASE_LRR'\. Did"),
        ("SOLVER: {MAX_ITER: many}", r"bad\.yaml: SOLVER\.MAX_ITER is 'many' \(str\), but must be"),
        ("_BASE_: absent.yaml", r"bad\.yaml: its _BASE_ \S+absent\.yaml does not exist"),
        ("SOLVER: [1\nB: }", r"bad\.yaml is not valid yaml: .*line 1"),
        ("- 1\n- 2", r"bad\.yaml contains a list; write 'KEY: value' lines"),
        ("A: !!python/object/apply:os.getcwd []", r"bad\.yaml line 1: .* would run code"),
        (b"\x80\x81\xff", r"bad\.yaml: not a text file in UTF-8; give a yaml file"),
    ],
)
def test_bad_config_file(main, tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    outcome = main("--config-file", str(path))
    assert outcome.code == 1
    assert re.search(message, outcome.error), outcome.error


def test_missing_config_file(main, tmp_path):
    (tmp_path / "quick_start.yaml").write_text("")
    outcome = main("--config-file", str(tmp_path / "quickstart.yaml"))
    assert outcome.code == 1
    expected = r"Config file \S+quickstart\.yaml not found\. Did you mean 'quick_"
    assert re.search(expected, outcome.error)
    outcome = main("--config-file", str(tmp_path))
    assert re.search(rf"config file {tmp_path} cannot be read: Is a directory", outcome.error)


def test_unwritable_output_dir(main, good, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = main(folder=tmp_path / "file/run", **train_on(good))
    assert outcome.code == 1
    assert re.search(r"OUTPUT_DIR '\S+file/run' cannot be written to .*; choose", outcome.error)


def test_steps_beyond_the_end_are_a_warning(main, good):
    outcome = main(SOLVER__STEPS=(1, 900), **train_on(good))
    assert outcome.code == 0
    assert "SOLVER.STEPS (1, 900) has steps beyond SOLVER.MAX_ITER 2" in outcome.out


def test_too_many_classes_are_a_warning(main, good):
    outcome = main(MODEL__ROI_HEADS__NUM_CLASSES=5, **train_on(good))
    assert outcome.code == 0 and not outcome.err
    told = re.findall(r"NUM_CLASSES is 5, more than the 2 thing_classes of coco:", outcome.out)
    assert len(told) == 1
