"""What a user of train_net.py sees for input that is not as it should be.

Each is one line that names the file or key at fault and what was expected, without a traceback,
and before training starts where it can be known by then.
"""

import importlib.util
import json
import logging
import os
import pickle
import re
import signal
import subprocess
import time
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.engine import default_argument_parser, launch
from d2lite.utils import comm
from tests.engine.tiny import TRAIN_NET, command, environment, overrides, run

STARTED = "Training from iteration"


def load_tool():
    spec = importlib.util.spec_from_file_location("train_net_under_test", TRAIN_NET)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train_net = load_tool()


class Outcome(NamedTuple):
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line about the error."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 2, self.err
        assert lines[1] == "(set D2LITE_TRACEBACK=1 to see where it was raised)"
        return lines[0]

    @property
    def started(self) -> bool:
        """Whether it came to training."""
        return STARTED in self.out


@pytest.fixture
def main(tmp_path, capfd, monkeypatch):
    """Runs the tool in this process: flags, then changes of the tiny settings."""
    monkeypatch.delenv("D2LITE_TRACEBACK", raising=False)
    loggers = [logging.getLogger(name) for name in ("d2lite", "fvcore")]
    before = [(one, one.handlers[:], one.level, one.propagate) for one in loggers]

    def call(*flags: str, extra: tuple = (), folder=tmp_path / "run", **changes) -> Outcome:
        changes = {"SOLVER__MAX_ITER": 2, "SOLVER__STEPS": (1,), **changes}
        settings = map(str, overrides(OUTPUT_DIR=str(folder), **changes))
        code = 0
        try:
            train_net.main(default_argument_parser().parse_args([*flags, *settings, *extra]))
        except SystemExit as stop:
            code = stop.code
        finally:
            for one in loggers:
                one.handlers.clear()
        outcome = Outcome(code, *capfd.readouterr())
        assert "Traceback" not in outcome.out + outcome.err
        return outcome

    yield call
    for one, handlers, level, propagate in before:
        one.handlers, one.level, one.propagate = handlers, level, propagate


def coco_data(size=4) -> dict:
    """The content of a good file."""
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 48, "width": 64} for i in range(size)]
    annotations = [
        {
            "id": 10 + i,
            "image_id": i,
            "category_id": i % 2 + 1,
            "bbox": [8, 8, 20, 24],
            "area": 480,
            "iscrowd": 0,
        }
        for i in range(size)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def photo(path, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_coco(folder, data: dict | str | None = None) -> str:
    """A dataset of four images; its URI."""
    images = folder / "images"
    images.mkdir(parents=True)
    for i in range(4):
        photo(images / f"{i}.jpg", i)
    data = coco_data() if data is None else data
    (folder / "train.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return f"coco:{folder}/train.json?images={images}"


def train_on(uri: str) -> dict:
    return {"DATASETS__TRAIN": repr((uri,))}


def test_on(uri: str) -> dict:
    return {"DATASETS__TEST": repr((uri,))}


test_on.__test__ = False


@pytest.fixture
def good(tmp_path):
    """URI of a dataset without fault."""
    return write_coco(tmp_path / "good")


def test_a_good_data_set_trains(main, good):
    outcome = main(**train_on(good))
    assert outcome.code == 0 and outcome.started and not outcome.err


# Settings -----------------------------------------------------------------------------------------

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
        r"MODEL\.FPN\.IN_FEATURES asks for feature 'res6', but the backbone gives \['res3', ",
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
    "steps": ({"SOLVER__STEPS": (-1, 1)}, r"SOLVER\.STEPS is \(-1, 1\); iterations have to ascend"),
    "no size": ({"INPUT__MIN_SIZE_TRAIN": ()}, r"INPUT\.MIN_SIZE_TRAIN is \(\); expected one or"),
    "negative size": ({"INPUT__MIN_SIZE_TRAIN": (-5,)}, r"INPUT\.MIN_SIZE_TRAIN is \(-5,\); "),
    "one size for a range": (
        {"INPUT__MIN_SIZE_TRAIN_SAMPLING": "range"},
        r"INPUT\.MIN_SIZE_TRAIN is \(64,\); .*'range' needs the least and the greatest",
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
    "patience below 0": ({"TEST__PATIENCE": -1}, r"TEST\.PATIENCE is -1; it has to be 0 or more"),
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
        ("- 1\n- 2", r"bad\.yaml holds a list; write 'KEY: value' lines"),
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
    assert re.search(r"no config file \S+quickstart\.yaml\. Did you mean 'quick_", outcome.error)
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
    assert "SOLVER.STEPS (1, 900) go beyond SOLVER.MAX_ITER 2" in outcome.out


def test_too_many_classes_are_a_warning(main, good):
    outcome = main(MODEL__ROI_HEADS__NUM_CLASSES=5, **train_on(good))
    assert outcome.code == 0 and not outcome.err
    told = re.findall(r"NUM_CLASSES is 5, more than the 2 thing_classes of coco:", outcome.out)
    assert len(told) == 1


# Datasets ----------------------------------------------------------------------------------------


def changed(**changes):
    """A COCO file with another second annotation; None takes a key out."""
    data = coco_data()
    data["annotations"][1].update(changes)
    data["annotations"][1] = {k: v for k, v in data["annotations"][1].items() if v is not None}
    return data


def other_image(**changes):
    data = coco_data()
    data["images"][1].update(changes)
    return data


BAD_COCO = {
    "truncated": (
        json.dumps(coco_data())[:-150],
        r"train\.json: not valid JSON at line 1, column \d+ .*cut off, fetch or write it again",
    ),
    "list": ("[1, 2]", r"train\.json: expected a JSON object, found a list"),
    "other JSON": (
        '{"version": 1}',
        r"train\.json: has no 'categories'; a COCO file has 'images', 'annotations' and .* version",
    ),
    "category out of range": (
        changed(category_id=9),
        r"train\.json: annotation 11 .*has category_id 9, absent from its 'categories'; add it or",
    ),
    "category absent": (changed(category_id=None), r"annotation 11 .*has category_id None, absent"),
    "short box": (
        changed(bbox=[1, 2, 3]),
        r"train\.json: annotation 11 of image 1 has bbox \[1, 2, 3\]; expected \[x, y, width, hei",
    ),
    "negative box": (changed(bbox=[1, 2, -3, 4]), r"annotation 11 of image 1 has bbox \[1, 2, -3"),
    "text in a box": (changed(bbox=["a", 2, 3, 4]), r"annotation 11 of image 1 has bbox \['a', 2"),
    "no box": (changed(bbox=None), r"annotation 11 of image 1 has bbox None; expected"),
    "text as a size": (
        other_image(height="48"),
        r"train\.json: image number 1 \(id 1\) has height '48'; expected a number of pixels",
    ),
    "file name": (other_image(file_name=7), r"image number 1 \(id 1\) has file_name 7; expected"),
    "no images": ({**coco_data(), "images": []}, r"dataset 'coco:.*' is empty: it has no images"),
    "no annotations": (
        {**coco_data(), "annotations": []},
        r"no image of coco:\S+ has an annotation to train on .* DATALOADER\.FILTER_EMPTY_ANNOTAT",
    ),
}


@pytest.mark.parametrize("data, message", BAD_COCO.values(), ids=BAD_COCO)
def test_bad_coco_files(main, tmp_path, data, message):
    outcome = main(**train_on(write_coco(tmp_path / "bad", data)))
    assert outcome.code == 1 and not outcome.started
    assert re.search(message, outcome.error), outcome.error


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "shapes_trian",
            r"dataset 'shapes_trian' is not registered\. Did you mean 'shapes_train'",
        ),
        (
            "coco:{0}/train.json?image={0}",
            r"unknown option 'image'\. Did you mean 'images'\? 'coco",
        ),
        ("coco:", r"'coco:': there is no path after 'coco:', such as in 'coco:train\.json"),
        ("coco:{0}/tarin.json", r"tarin\.json: there is no such annotation file"),
        (
            "coco:{0}/train.json?images={0}/imgs",
            r"no image folder '\S+/imgs'; give it as '\?images",
        ),
        ("coco:{0}/train.json", r"0\.jpg: this image of \S+ does not exist, nor does any other of"),
        ("voc:{0}/none?split=train", r"none/ImageSets/Main: .* a VOC dataset has Annotations/"),
    ],
)
def test_bad_data_set_names(main, tmp_path, name, message):
    write_coco(tmp_path / "good")
    outcome = main(**train_on(name.format(tmp_path / "good")))
    assert outcome.code == 1 and not outcome.started
    assert re.search(message, outcome.error), outcome.error


def write_voc(folder, size="<size><width>64</width><height>48</height></size>") -> str:
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    photo(folder / "JPEGImages/a.jpg")
    box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
    xml = f"<annotation>{size}<object><name>cat</name>{box}</object></annotation>"
    (folder / "Annotations/a.xml").write_text(xml)
    (folder / "ImageSets/Main/train.txt").write_text("a\n")
    return f"voc:{folder}"


def test_bad_voc_folders(main, tmp_path):
    outcome = main(**train_on(write_voc(tmp_path / "no_size", size="") + "?split=train"))
    assert outcome.code == 1 and not outcome.started
    assert re.search(r"Annotations/a\.xml: has no <size>; expected <size><width>W", outcome.error)
    outcome = main(**train_on(write_voc(tmp_path / "no_split") + "?split=trian"))
    assert re.search(r"no split 'trian'\. Did you mean 'train'\? Splits there: tr", outcome.error)


def test_missing_images_are_counted_before_training(main, good, tmp_path):
    for name in ("1.jpg", "3.jpg"):
        (tmp_path / "good/images" / name).unlink()
    outcome = main(**train_on(good))
    assert outcome.code == 1 and not outcome.started
    found = (
        r"2 of the 4 files \(file_name\) of coco:\S+ do not exist, the first is \S+images/1\.jpg"
    )
    assert re.search(found, outcome.error), outcome.error
    outcome = main(DATALOADER__ON_BAD_SAMPLE="skip", **train_on(good))
    assert outcome.code == 0 and outcome.started
    assert re.search(f"WARNING: {found}; they are skipped", outcome.out)


def test_bad_test_sets_are_told_before_training(main, good, tmp_path):
    outcome = main(DATASETS__TEST=("shapes_vall",), **train_on(good))
    assert outcome.code == 1 and not outcome.started
    assert re.search(r"'shapes_vall' is not registered\. Did you mean 'shapes_val'", outcome.error)
    uri = write_coco(tmp_path / "val")
    (tmp_path / "val/images/2.jpg").unlink()
    outcome = main(**train_on(good), **test_on(uri))
    assert outcome.code == 1 and not outcome.started
    assert re.search(r"1 of the 4 files .* the first is \S+val/images/2\.jpg", outcome.error)


def test_other_classes_in_the_test_set_are_a_warning(main, good, tmp_path):
    data = coco_data()
    data["categories"][0]["name"] = "cow"
    outcome = main(**train_on(good), **test_on(write_coco(tmp_path / "val", data)))
    assert outcome.code == 0
    assert re.search(
        r"the model has no class 'cow' of DATASETS\.TEST \S+, so it finds", outcome.out
    )
    assert re.search(r"has no class 'cat' of the model: such detections are left", outcome.out)


def test_the_same_classes_in_another_order_are_matched_by_name(main, good, tmp_path):
    data = coco_data()
    first, second = data["categories"][:2]
    first["name"], second["name"] = second["name"], first["name"]
    outcome = main(**train_on(good), **test_on(write_coco(tmp_path / "val", data)))
    assert outcome.code == 0 and "has no class" not in outcome.out


# Images that do not decode ------------------------------------------------------------------------


def cut_off(path):
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_does_not_decode_stops_the_run_with_its_path(main, good, tmp_path, workers):
    cut_off(tmp_path / "good/images/1.jpg")
    outcome = main(SOLVER__MAX_ITER=8, DATALOADER__NUM_WORKERS=workers, **train_on(good))
    assert outcome.code == 1
    assert re.search(r"good/images/1\.jpg: the image does not decode", outcome.error)
    assert "Traceback" in (tmp_path / "run/log.txt").read_text()  # for those who want to know


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_can_be_skipped_and_are_counted(main, good, tmp_path, workers):
    cut_off(tmp_path / "good/images/1.jpg")
    outcome = main(
        SOLVER__MAX_ITER=8,
        DATALOADER__NUM_WORKERS=workers,
        DATALOADER__ON_BAD_SAMPLE="skip",
        **train_on(good),
    )
    assert outcome.code == 0
    assert outcome.out.count("Skipped a sample") == 1  # one line for each file
    lines = (tmp_path / "run/metrics.json").read_text().splitlines()
    # 16 samples are drawn from four images in shuffled rounds: each image four times.
    assert json.loads(lines[-1])["data/num_skipped"] >= 4


def test_nothing_but_bad_images(main, good, tmp_path):
    for i in range(4):
        (tmp_path / f"good/images/{i}.jpg").write_bytes(b"no image")
    outcome = main(DATALOADER__ON_BAD_SAMPLE="skip", **train_on(good))
    assert outcome.code == 1
    assert re.search(r"samples in a row .*images/\d\.jpg: not an image", outcome.error)


def test_a_size_that_is_not_the_images(main, tmp_path):
    data = coco_data()
    for image in data["images"]:
        image["height"] = 50
    outcome = main(**train_on(write_coco(tmp_path / "bad", data)))
    assert outcome.code == 1
    assert re.search(r"\.jpg: the image is 48 x 64 .* its dataset says 50 x 64", outcome.error)


# Weights ------------------------------------------------------------------------------------------


class Code:
    """Runs a program when it is unpickled by Python's own unpickler."""

    def __reduce__(self):
        return os.system, ("exit 3",)


def write_weights(path, kind):
    if kind == "text":
        path.write_text("hello, this is a text")
    elif kind == "pickle with code":
        path.write_bytes(pickle.dumps({"model": {"a": Code()}}))
    elif kind == "torch file with code":
        torch.save({"model": {"a": Code()}}, path)
    elif kind == "damaged":
        torch.save({"model": {"a": torch.zeros(1000)}}, path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "no weights":
        torch.save({"epoch": 1}, path)


BAD_WEIGHTS = {
    "text": r"weights is not a checkpoint: it starts with b'hello, .* Expected a \.pth",
    "pickle with code": r"weights refers to \w+\.system, which is not plain data and could run",
    "torch file with code": r"weights refers to \w+\.system, which is not plain data and could run",
    "damaged": r"weights is damaged, or not a checkpoint: .* Copy or download it again",
    "no weights": r"weights is not a checkpoint of a model: its entry 'epoch' is a int; expected",
    "nothing": r"Checkpoint \S+weights not found\. Did you mean 'weights_2'\?$",
}


@pytest.mark.parametrize("kind, message", BAD_WEIGHTS.items(), ids=BAD_WEIGHTS)
def test_bad_weights(main, good, tmp_path, kind, message):
    (tmp_path / "weights_2").write_text("")
    write_weights(tmp_path / "weights", kind)
    outcome = main(MODEL__WEIGHTS=tmp_path / "weights", **train_on(good))
    assert outcome.code == 1 and not outcome.started
    assert re.search(message, outcome.error), outcome.error


@pytest.mark.parametrize(
    "address, message",
    [
        ("https://localhost:9/x.pth", r"Cannot download https://localhost:9/x\.pth: .* Check the"),
        ("catalog://R-50", r"The model catalog has no 'R-50'\. "),
        ("torchvision://ResNet18", r"torchvision has no model called 'ResNet18'\. .*'resnet18'"),
    ],
)
def test_addresses_that_lead_nowhere(main, good, monkeypatch, tmp_path, address, message):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    outcome = main(MODEL__WEIGHTS=address, **train_on(good))
    assert outcome.code == 1 and not outcome.started
    assert re.search(message, outcome.err), outcome.err  # behind a progress bar


def test_weights_of_another_model_are_reported(main, good, tmp_path):
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "other.pth")
    outcome = main(MODEL__WEIGHTS=tmp_path / "other.pth", **train_on(good))
    assert outcome.code == 0
    assert re.search(r"WARNING: Checkpoint: 0 of the model's \d+ entries were loaded", outcome.out)
    assert "these seem to be the weights of another model" in outcome.out
    assert "unexpected   encoder.weight" in outcome.out


def test_resume_passes_over_damaged_checkpoints_by_name(main, good, tmp_path):
    run_dir = tmp_path / "run"
    settings = {"SOLVER__CHECKPOINT_PERIOD": 1, **train_on(good)}
    assert main(**settings).code == 0
    final = run_dir / "model_final.pth"
    final.write_bytes(final.read_bytes()[:5000])
    outcome = main("--resume", **{**settings, "SOLVER__MAX_ITER": 3})
    assert outcome.code == 0
    assert re.search(r"Cannot resume: \S+model_final\.pth is damaged", outcome.out)
    assert "Training from iteration 2 to 3" in outcome.out
    for path in run_dir.glob("*.pth"):
        path.write_bytes(path.read_bytes()[:5000])
    outcome = main("--resume", **settings)
    assert outcome.code == 1 and not outcome.started
    assert re.search(
        r"None of the checkpoints in \S+run can be resumed from .*; the newest: \S+model_final\."
        r"pth is damaged.* Without --resume, training starts anew",
        outcome.error,
    )


# Evaluation ---------------------------------------------------------------------------------------


def test_evaluation_of_random_weights_is_a_warning(main, good):
    outcome = main("--eval-only", **train_on(good), **test_on(good))
    assert outcome.code == 0
    assert "MODEL.WEIGHTS is empty: a model with random weights is evaluated" in outcome.out


def test_evaluation_on_nothing(main, good):
    outcome = main("--eval-only", **train_on(good))
    assert outcome.code == 1
    assert "DATASETS.TEST is empty, so there is nothing to evaluate on" in outcome.error


def test_a_misspelled_metric_is_told_at_the_first_evaluation(main, good):
    outcome = main(TEST__BEST_METRIC="bbox/APP", **train_on(good), **test_on(good))
    assert outcome.code == 0
    assert re.search(r"No bbox/APP was evaluated.* Did you mean 'bbox/AP", outcome.out)


# The program itself -------------------------------------------------------------------------------


def test_the_way_to_an_error_is_shown_on_request(main, monkeypatch):
    monkeypatch.setenv("D2LITE_TRACEBACK", "1")
    with pytest.raises(KeyError, match="shapes_trian"):
        main(DATASETS__TRAIN=("shapes_trian",))


def test_the_batch_is_shared_by_the_processes(main, good, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    outcome = main(SOLVER__IMS_PER_BATCH=3, **train_on(good))
    assert outcome.code == 1 and not outcome.started
    message = r"^process 0: ArgumentError: SOLVER\.IMS_PER_BATCH .* is 3; .* number of processes, 2"
    assert re.search(message, outcome.error), outcome.error


def test_a_real_command_line(tmp_path):
    done = run(command(tmp_path, DATASETS__TRAIN=("shapes_trian",)))
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(
        r"UnknownNameError: dataset 'shapes_trian' is not registered\. .*\n\(set D2.*\)\n",
        done.stderr,
    ), done.stderr


def test_more_processes_than_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"2 processes .* \(--num-gpus\), which has 1 CUDA dev"):
        launch(print, 2)
    with pytest.raises(ValueError, match=r"--machine-rank is 2; with --num-machines 2 .* 0 to 1"):
        launch(print, 1, num_machines=2, machine_rank=2, dist_url="tcp://localhost:1")


def interrupt(good, folder, number, after: str, **changes) -> subprocess.CompletedProcess:
    """Send a signal to all processes, as a terminal does, when `after` was printed."""
    arguments = command(folder, SOLVER__MAX_ITER=100000, **train_on(good), **changes)
    with (
        open(folder / "out.txt", "w", encoding="utf-8") as out,
        open(folder / "err.txt", "w", encoding="utf-8") as err,
    ):
        process = subprocess.Popen(
            arguments,
            env=environment(),
            stdout=out,
            stderr=err,
            start_new_session=True,
            # Programs in the background of a script are started with Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            deadline = time.monotonic() + 120
            while after not in (folder / "out.txt").read_text():
                assert process.poll() is None, (folder / "err.txt").read_text()
                assert time.monotonic() < deadline, f"no {after!r}"
                time.sleep(0.05)
            os.killpg(process.pid, number)
            code = process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()
    texts = [(folder / name).read_text() for name in ("out.txt", "err.txt")]
    return subprocess.CompletedProcess(arguments, code, *texts)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_keeps_the_work_and_says_how_to_go_on(good, tmp_path, number, code):
    done = interrupt(good, tmp_path, number, STARTED, DATALOADER__NUM_WORKERS=2)
    assert done.returncode == code
    assert "Traceback" not in done.stdout + done.stderr
    told = re.search(
        r"Stopped at iteration (\d+) of 100000\. The last checkpoint is (\S+model_(\d{7})\.pth); "
        r"the same command with --resume goes on\.",
        done.stderr if number == signal.SIGINT else done.stdout,
    )
    assert told, done.stdout + done.stderr
    assert told[1] == str(int(told[3])) and os.path.isfile(told[2])


def test_ctrl_c_before_the_first_checkpoint(main, good, monkeypatch):
    def stop(self):
        if self.iter == 1:
            raise KeyboardInterrupt
        return None

    monkeypatch.setattr(train_net.Trainer, "run_step", stop)
    outcome = main(SOLVER__CHECKPOINT_PERIOD=100, **train_on(good))
    assert outcome.code == 130
    assert outcome.err.strip() == (
        "Stopped at iteration 1 of 2. No checkpoint was saved yet "
        "(SOLVER.CHECKPOINT_PERIOD is 100)."
    )
