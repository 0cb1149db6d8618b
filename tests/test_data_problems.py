"""Deliberate faults of data and config: each is said before the first iteration."""

import json
import logging
import math
import re

import numpy as np
import pytest
import torch

from d2lite.config import get_cfg
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets import register_coco_instances
from d2lite.engine import DefaultTrainer
from d2lite.evaluation import COCOEvaluator, RotatedCOCOEvaluator, match_classes
from d2lite.structures import Boxes, BoxMode, Instances
from tests import data_problems
from tests.data_problems import (
    BOX,
    COCO_PROBLEMS,
    ERROR,
    LEFT_OUT,
    SIZE,
    good_file,
    inf,
    nan,
    write_images,
)


class Trainer(DefaultTrainer):
    """Everything up to the first iteration, but for the model: faults are to show without one."""

    @classmethod
    def build_model(cls, cfg):
        return torch.nn.Linear(1, 1)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return str(folder)


@pytest.fixture
def register(tmp_path, images):
    """Register the contents of a COCO file under a name, which is forgotten afterward."""
    names = []

    def add(contents, name="problem_train", **metadata):
        json_file = tmp_path / f"{name}.json"
        if isinstance(contents, bytes):
            json_file.write_bytes(contents)
        else:
            text = (
                contents if isinstance(contents, str) else json.dumps(contents, ensure_ascii=False)
            )
            json_file.write_text(text, encoding="utf-8")
        points = ["nose", "left_ear", "right_ear"]
        flips = [("left_ear", "right_ear")]
        about = {"keypoint_names": points, "keypoint_flip_map": flips, **metadata}
        register_coco_instances(name, about, str(json_file), images)
        names.append(name)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def make_cfg(tmp_path, train, test=None, needs="boxes", **changes):
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.OUTPUT_DIR = str(tmp_path / "out")
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATASETS.TRAIN = (train,)
    cfg.DATASETS.TEST = (test or train,)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.MASK_ON = needs in ("masks", "bitmasks")
    cfg.INPUT.MASK_FORMAT = "bitmask" if needs == "bitmasks" else "polygon"
    cfg.MODEL.KEYPOINT_ON = needs == "keypoints"
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 3
    cfg.merge_from_list([x for k, v in changes.items() for x in (k.replace("__", "."), v)])
    return cfg


@pytest.mark.parametrize("needs", ["boxes", "masks", "keypoints"])
def test_a_good_file_is_taken_in_silence(register, tmp_path, caplog, needs):
    cfg = make_cfg(tmp_path, register(good_file()), needs=needs)
    with caplog.at_level(logging.WARNING):
        Trainer(cfg)
    assert [r.message for r in caplog.records if "annotation" in r.message] == []


@pytest.mark.parametrize("problem", COCO_PROBLEMS, ids=[p.title for p in COCO_PROBLEMS])
def test_problems_of_coco_files(register, tmp_path, caplog, problem):
    contents = good_file()
    spoiled = problem.spoil(contents)
    name = register(spoiled if isinstance(spoiled, str | bytes) else contents)
    cfg = make_cfg(tmp_path, name, needs=problem.needs)
    if problem.outcome == ERROR:
        with pytest.raises((ValueError, FileNotFoundError), match=problem.says) as caught:
            Trainer(cfg)
        assert "\n" not in str(caught.value)
        return
    with caplog.at_level(logging.WARNING):
        Trainer(cfg)
    found = "\n".join(r.getMessage() for r in caplog.records)
    assert problem.says or "annotation" not in found
    assert re.search(problem.says, found)
    left = sum(len(r["annotations"]) for r in DatasetCatalog.get(name))
    truth = len(COCOEvaluator(name)._coco_api.anns)
    assert left == truth == len(contents["annotations"]) - (problem.outcome == LEFT_OUT)


def test_the_table_of_the_docs_is_that_of_the_tests():
    assert data_problems.DOCS.read_text(encoding="utf-8") == data_problems.markdown(), (
        "write it again: python -m tests.data_problems"
    )


def test_names_of_classes_are_read_whatever_the_locale(register, tmp_path, monkeypatch):
    contents = good_file()
    contents["categories"][0]["name"] = "K\u00e4tzchen"
    name = register(contents)
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    monkeypatch.setattr("locale.getencoding", lambda: "ascii", raising=False)
    DatasetCatalog.get(name)
    assert MetadataCatalog.get(name).thing_classes == ["K\u00e4tzchen", "dog"]


def perfect(name, index_of=lambda category: category, map_to=None, fast=True, evaluator=None):
    """Evaluate the ground truth as detections, whose classes are renumbered."""
    evaluator = evaluator or COCOEvaluator(name, use_fast_impl=fast)
    evaluator = evaluator if map_to is None else match_classes(evaluator, {"thing_classes": map_to})
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        rows = record["annotations"]
        found = Instances(SIZE, scores=torch.full((len(rows),), 0.9))
        boxes = torch.tensor([row["bbox"] for row in rows], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found.pred_boxes = Boxes(boxes)
        classes = [index_of(row["category_id"]) for row in rows]
        found.pred_classes = torch.tensor(classes, dtype=torch.int64)
        evaluator.process([record], [{"instances": found}])
    return evaluator.evaluate()["bbox"]


@pytest.mark.parametrize("fast", [True, False])
def test_ids_of_annotations_do_not_change_the_ap(register, fast):
    """pycocotools takes id 0 for "no match", and repeated ids for one object."""
    contents = good_file()
    for row, new_id in zip(contents["annotations"], (0, -1, "a", 0), strict=True):
        row["id"] = new_id
    assert perfect(register(contents), fast=fast)["AP"] == pytest.approx(100)


@pytest.mark.parametrize("limit, expected", [(300, 100), (100, 100 * 67 / 101)])
def test_all_detections_of_crowded_images_count(register, tmp_path, limit, expected):
    """150 objects are found; of 100 that count, precision is 1 up to a recall of 2/3: 67 of 101."""
    contents = good_file()
    boxes = [[4 * (i % 15), 4 * (i // 15), 3, 3] for i in range(150)]
    contents["annotations"] = [
        {"image_id": 1, "category_id": 1, "bbox": box, "iscrowd": 0} for box in boxes
    ]
    name = register(contents)
    cfg = make_cfg(tmp_path, name, TEST__DETECTIONS_PER_IMAGE=limit)
    results = perfect(name, evaluator=Trainer.build_evaluator(cfg, name))
    assert results["AP"] == pytest.approx(expected)


def without_dogs(data):
    data["categories"] = data["categories"][:1]
    data["annotations"] = [row for row in data["annotations"] if row["category_id"] == 1]
    return data


@pytest.mark.parametrize(
    "model, nan",
    [
        (["cat"], ()),  # the same
        (["dog", "cat"], ("AP-dog",)),  # a class that the test set lacks
        (["dog", "cow", "cat"], ("AP-dog", "AP-cow")),
    ],
)
def test_classes_of_the_model_are_matched_by_name(register, model, nan):
    name = register(without_dogs(good_file()), "problem_val")
    DatasetCatalog.get(name)
    results = perfect(name, lambda _: model.index("cat"), map_to=model)
    assert results["AP"] == pytest.approx(100)
    for key in nan if "AP-cat" in results else ():
        assert math.isnan(results[key])


def test_another_order_of_the_test_set_is_matched(register, tmp_path):
    train = register(good_file())
    other = good_file()
    for row in (*other["categories"], *other["annotations"]):
        key = "category_id" if "bbox" in row else "id"
        row[key] = 3 - row[key]
    val = register(other, "problem_val")
    Trainer(make_cfg(tmp_path, train, val))
    # Index 0 of the model is a cat, which has index 1 in the test set.
    results = perfect(val, lambda index: 1 - index, map_to=["cat", "dog"])
    assert results["AP-cat"] == results["AP-dog"] == pytest.approx(100)


def test_detections_of_classes_without_a_name_are_left_out(register):
    """A model of 80 classes that was taught two may still find the others at first."""
    name = register(good_file())
    assert perfect(name, lambda _: 57, map_to=["cat", "dog"])["AP"] != 100


@pytest.mark.parametrize(
    "names, message",
    [
        (["a", "b", "c"], "no class of .* is known to the model"),
        (["cat", "cat"], "'cat' occurs 1 times among the classes of the model and 2 times"),
    ],
)
def test_classes_that_cannot_be_matched_are_told_before_training(
    register, tmp_path, names, message
):
    other = good_file()
    other["categories"] = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    val = register(other, "problem_val")
    with pytest.raises(ValueError, match=message):
        Trainer(make_cfg(tmp_path, register(good_file()), val))


def test_a_file_with_some_of_the_known_classes_keeps_their_places(register):
    """A validation file without a class, registered with those of the training."""
    contents = good_file()
    contents["categories"] = contents["categories"][1:]
    contents["annotations"] = [r for r in contents["annotations"] if r["category_id"] == 2]
    name = register(contents, thing_classes=["cat", "dog"])
    assert {a["category_id"] for r in DatasetCatalog.get(name) for a in r["annotations"]} == {1}
    results = perfect(name)
    assert results["AP"] == results["AP-dog"] == pytest.approx(100)
    assert math.isnan(results["AP-cat"])


def by_hand(images):
    """Dicts as a program makes them."""
    return [
        {
            "file_name": f"{images}/{i}.png",
            "image_id": i,
            "height": SIZE[0],
            "width": SIZE[1],
            "annotations": [{"bbox": BOX, "bbox_mode": BoxMode.XYWH_ABS, "category_id": i % 2}],
        }
        for i in range(1, 5)
    ]


@pytest.fixture
def hand_made(images):
    """Register dicts that a function has changed."""
    name = "problem_by_hand"

    def add(change=lambda records: None, **metadata):
        records = by_hand(images)
        change(records)
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(**(metadata or {"thing_classes": ["cat", "dog"]}))
        return name

    yield add
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def remove(key, of=slice(None)):
    return lambda records: [record.pop(key) for record in records[of]]


def set_first(**values):
    return lambda records: records[0]["annotations"][0].update(values)


@pytest.mark.parametrize(
    "change",
    [remove("image_id"), remove("image_id", slice(1, 3)), remove("height"), remove("width")],
    ids=["no image_id", "some without image_id", "no height", "no width"],
)
def test_what_dicts_lack_is_filled_in(hand_made, tmp_path, change):
    name = hand_made(change)
    Trainer(make_cfg(tmp_path, name))
    api = COCOEvaluator(name)._coco_api
    sizes = {(image["height"], image["width"]) for image in api.dataset["images"]}
    assert len(api.imgs) == 4 and sizes == {SIZE}


def test_a_dict_without_annotations_beside_others_has_none(hand_made, tmp_path):
    name = hand_made(remove("annotations", slice(3, 4)))
    Trainer(make_cfg(tmp_path, name))
    assert len(COCOEvaluator(name)._coco_api.anns) == 3


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda records: [r.update(image_id=1) for r in records], "image_id 1 occurs 4 times"),
        (lambda records: records[0].update(image_id=[1]), r"1\.png has image_id \[1\]"),
        (lambda records: records[0].update(height="48"), "has height '48'; expected a whole"),
        (lambda records: records[0].update(height=-48), r"has the size -48 x 64"),
        (set_first(category_id=2), "annotation has category_id 2, but the 2 thing_classes"),
        (set_first(category_id="0"), "annotation number 0 has category_id '0'"),
        (set_first(bbox=["8", 8, 20, 24]), r"number 0 has bbox \['8'"),
        (set_first(bbox=[8, 8, 20]), r"number 0 has bbox \[8, 8, 20\]"),
        (set_first(bbox_mode=BoxMode.XYXY_REL), "has bbox_mode .*XYXY_REL"),
        (set_first(bbox_mode=BoxMode.XYXY_ABS, bbox=[20, 8, 8, 24]), "with x0 <= x1 and y0 <= y1"),
        (lambda rs: rs[0]["annotations"][0].pop("bbox_mode"), "number 0 has no 'bbox_mode'"),
        (lambda rs: rs[0]["annotations"][0].pop("bbox"), "number 0 has no 'bbox'"),
        (set_first(bbox=[5, 5, math.inf, 5]), r"number 0 has bbox \[5, 5, inf, 5\]"),
        (set_first(segmentation=np.zeros((9, 9))), "has a mask of 9 x 9, but its image is 48 x 64"),
        (set_first(keypoints=[1, 2, 3, 4]), r"has keypoints \[1, 2, 3, 4\]"),
        (set_first(iscrowd=2), "has iscrowd 2; expected 0 or 1"),
        (set_first(category_id=[1]), r"annotation has category_id \[1\], but the 2 thing_classes"),
        (lambda rs: rs[0]["annotations"][0].pop("category_id"), r"1\.png: .* category_id None"),
        (
            lambda rs: rs[0].update(annotations="none"),
            r"annotations of .*1\.png are 'none'; expected",
        ),
        (lambda rs: rs[0].update(annotations=[None]), r"1\.png are \[None\]; expected a list of"),
        (
            lambda rs: rs.__setitem__(0, None),
            "'problem_by_hand': item number 0 is not a dict: None",
        ),
        (lambda rs: rs[0].update(image_id="1"), "some values of image_id are numbers, others are"),
        (remove("file_name", slice(1, 2)), "image number 1 has no 'file_name'"),
    ],
)
def test_faults_of_dicts_are_told_before_training(hand_made, tmp_path, change, message):
    name = hand_made(change)
    with pytest.raises(ValueError, match=message):
        Trainer(make_cfg(tmp_path, name))


@pytest.mark.parametrize("names", ["cat", {0: "cat", 1: "dog"}, 2])
def test_names_of_classes_are_a_list(hand_made, names):
    with pytest.raises(
        ValueError, match=r"thing_classes of 'problem_by_hand' is .*expected a list"
    ):
        hand_made(thing_classes=names)


def test_arrays_of_numpy_and_torch_are_taken(hand_made, tmp_path):
    change = set_first(
        bbox=np.array(BOX, np.float32), category_id=torch.tensor(1), keypoints=torch.ones(3, 3)
    )
    name = hand_made(change, thing_classes=np.array(["cat", "dog"]))
    Trainer(make_cfg(tmp_path, name))
    assert DatasetCatalog.get(name)[0]["annotations"][0]["keypoints"].shape == (3, 3)


def test_test_sets_without_names_of_keypoints_are_counted(register, hand_made, tmp_path):
    val = hand_made(lambda rs: [r["annotations"][0].update(keypoints=[9, 9, 2] * 2) for r in rs])
    with pytest.raises(
        ValueError, match=r"NUM_KEYPOINTS is 3, but dataset .* has 2 keypoints; set"
    ):
        Trainer(make_cfg(tmp_path, register(good_file()), val, needs="keypoints"))


def test_a_dataset_of_unknown_kind_is_told_before_training(hand_made, tmp_path):
    name = hand_made(note="no classes, no evaluator_type")
    with pytest.raises(ValueError, match="evaluator_type in its metadata is None"):
        Trainer(make_cfg(tmp_path, name))


def turn(records):
    x, y, w, h = BOX
    for record in records:
        box = [x + w / 2, y + h / 2, w, h, 15.0]
        record["annotations"][0].update(bbox=box, bbox_mode=BoxMode.XYWHA_ABS)


def test_the_evaluator_follows_rotated_boxes_and_the_number_of_detections(hand_made, tmp_path):
    name = hand_made(turn)
    cfg = make_cfg(tmp_path, name, TEST__DETECTIONS_PER_IMAGE=300)
    evaluator = Trainer.build_evaluator(cfg, name)
    assert isinstance(evaluator, RotatedCOCOEvaluator)
    assert evaluator._max_dets_per_image == [1, 10, 300]
    cfg.TEST.DETECTIONS_PER_IMAGE = 50  # fewer change nothing of what is reported
    assert Trainer.build_evaluator(cfg, name)._max_dets_per_image == [1, 10, 100]
    Trainer(cfg)


def test_a_rotated_model_is_evaluated_as_such_on_upright_boxes(hand_made, tmp_path):
    cfg = make_cfg(tmp_path, hand_made())
    cfg.MODEL.RPN.BBOX_REG_WEIGHTS = (1.0,) * 5
    assert isinstance(Trainer.build_evaluator(cfg, "problem_by_hand"), RotatedCOCOEvaluator)


CONFIG_FAULTS = {
    "fewer classes": ({"MODEL__ROI_HEADS__NUM_CLASSES": 1}, "NUM_CLASSES is 1, but .* has 2"),
    "no classes": ({"MODEL__ROI_HEADS__NUM_CLASSES": 0}, "NUM_CLASSES is 0, but .* has 2"),
    "keypoints": (
        {"MODEL__KEYPOINT_ON": True, "MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS": 17},
        r"NUM_KEYPOINTS is 17, but dataset 'problem_train' has 3 keypoints \(nose, left_ear",
    ),
    "sigmas": (
        {"MODEL__KEYPOINT_ON": True, "TEST__KEYPOINT_OKS_SIGMAS": [0.1, 0.1]},
        r"KEYPOINT_OKS_SIGMAS is \[0.1, 0.1\]; expected 3 numbers",
    ),
    "sigma of 0": (
        {"MODEL__KEYPOINT_ON": True, "TEST__KEYPOINT_OKS_SIGMAS": [0.1, 0.1, 0.0]},
        "KEYPOINT_OKS_SIGMAS .* above 0",
    ),
    "rate is nan": ({"SOLVER__BASE_LR": nan}, "SOLVER.BASE_LR is nan; expected finite"),
    "rate is infinite": ({"SOLVER__BASE_LR": inf}, "SOLVER.BASE_LR is inf; expected finite"),
    "rate below 0": ({"SOLVER__BASE_LR": -0.1}, "SOLVER.BASE_LR is -0.1"),
    "mean is nan": ({"MODEL__PIXEL_MEAN": [nan, 0.0, 0.0]}, "MODEL.PIXEL_MEAN is .*finite"),
    "deviation of 0": ({"MODEL__PIXEL_STD": [1.0, 0.0, 1.0]}, "MODEL.PIXEL_STD .* cannot be 0"),
    "threshold is nan": (
        {"MODEL__ROI_HEADS__SCORE_THRESH_TEST": nan}, "SCORE_THRESH_TEST is nan; expected finite"
    ),
    "batch of 0": ({"SOLVER__IMS_PER_BATCH": 0}, "SOLVER.IMS_PER_BATCH is 0"),
    "no iteration": ({"SOLVER__MAX_ITER": 0}, "SOLVER.MAX_ITER is 0"),
    "device": ({"MODEL__DEVICE": "gpu"}, "MODEL.DEVICE is 'gpu'"),
    "image format": ({"INPUT__FORMAT": "GBR"}, "INPUT.FORMAT is 'GBR'"),
    "mask format": (
        {"MODEL__MASK_ON": True, "INPUT__MASK_FORMAT": "rle"}, "INPUT.MASK_FORMAT is 'rle'"
    ),
    "sizes": ({"INPUT__MIN_SIZE_TRAIN": ()}, "INPUT.MIN_SIZE_TRAIN is"),
    "sampler": ({"DATALOADER__SAMPLER_TRAIN": "Training"}, "SAMPLER_TRAIN is 'Training'"),
    "test set": ({"DATASETS__TEST": ("problem_tarin",)}, "problem_tarin.*Did you mean"),
    "training set": ({"DATASETS__TRAIN": ("problem_tarin",)}, "problem_tarin.*Did you mean"),
    "metric without test": (
        {"DATASETS__TEST": (), "TEST__BEST_METRIC": "bbox/AP"}, "TEST.BEST_METRIC is 'bbox/AP', but"
    ),
    "crops": (
        {"INPUT__CROP__ENABLED": True, "INPUT__CROP__SIZE": [2.0, 0.5]}, r"CROP.SIZE is .*0 to 1"
    ),
    "output": ({"OUTPUT_DIR": __file__}, r"OUTPUT_DIR is .*, which is a file"),
    "repeats": ({"DATALOADER__REPEAT_THRESHOLD": -1.0}, "DATALOADER.REPEAT_THRESHOLD is -1.0"),
    "proposals": (
        {"MODEL__LOAD_PROPOSALS": True}, "PROPOSAL_FILES_TEST names 0 files for 1 test sets"
    ),
    "patience": ({"TEST__PATIENCE": 3}, "TEST.PATIENCE is 3"),
    "precision": (
        {"SOLVER__AMP__ENABLED": True, "SOLVER__AMP__DTYPE": "int8"}, "SOLVER.AMP.DTYPE is 'int8'"
    ),
    "architecture": ({"MODEL__META_ARCHITECTURE": "RCNN"}, "RCNN"),
    "rotated boxes and masks": (
        {"MODEL__MASK_ON": True, "MODEL__RPN__BBOX_REG_WEIGHTS": (1.0,) * 5},
        "rotated boxes cannot be combined with masks",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", CONFIG_FAULTS)
def test_faults_of_the_config(register, tmp_path, fault):
    changes, message = CONFIG_FAULTS[fault]
    cfg = make_cfg(tmp_path, register(good_file()), **changes)
    with pytest.raises((ValueError, KeyError), match=message):
        Trainer(cfg)


@pytest.mark.parametrize(
    "flips, message",
    [
        ([("left_ear", "right_aer")], "has 'right_aer', which is not in keypoint_names. Did you"),
        ([("left_ear", "right_ear"), ("nose", "left_ear")], "'left_ear' is in two pairs"),
    ],
)
def test_flip_maps_that_do_not_fit_the_names(register, tmp_path, flips, message):
    name = register(good_file(), keypoint_flip_map=flips)
    with pytest.raises(ValueError, match=message):
        Trainer(make_cfg(tmp_path, name, needs="keypoints"))


def test_a_test_set_with_masks_on_some_objects_is_told_before_training(register, tmp_path):
    spoiled = good_file()
    del spoiled["annotations"][2]["segmentation"]
    val = register(spoiled, "problem_val")
    with pytest.raises(ValueError, match="1 of the 4 annotations have no 'segmentation'"):
        Trainer(make_cfg(tmp_path, register(good_file()), val, needs="masks"))


def test_a_test_set_without_masks_is_evaluated_by_its_boxes(register, tmp_path, caplog):
    spoiled = good_file()
    for row in spoiled["annotations"]:
        del row["segmentation"]
    val = register(spoiled, "problem_val")
    Trainer(make_cfg(tmp_path, register(good_file()), val, needs="masks"))
    assert "has no masks: the model's are not evaluated" in caplog.text


@pytest.mark.parametrize("metric, is_known", [("bbox/AP-dog", True), ("segm/AP", False)])
def test_a_metric_that_nothing_reports_is_told_before_training(
    register, tmp_path, caplog, metric, is_known
):
    Trainer(make_cfg(tmp_path, register(good_file()), TEST__BEST_METRIC=metric))
    assert ("which no evaluator reports" in caplog.text) != is_known


def test_sigmas_of_keypoints_follow_their_names(register):
    """Of COCO: nose 0.026, ears 0.035; a keypoint that it does not have gets the mean."""
    evaluator = COCOEvaluator(register(good_file()))
    assert evaluator._oks_sigmas([]) == pytest.approx([0.026, 0.035, 0.035])
    names = ["tail", "left_ear", "right_ear"]
    evaluator = COCOEvaluator(register(good_file(), "problem_val", keypoint_names=names))
    assert evaluator._oks_sigmas([]) == pytest.approx([0.0689, 0.035, 0.035])
