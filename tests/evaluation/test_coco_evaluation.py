"""COCOEvaluator around COCOeval: datasets of any kind, files, categories and mistakes."""

import json
import logging
import math
import pickle

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.evaluation import COCOEvaluator
from d2lite.structures import Boxes, Instances
from tests.evaluation.two_boxes import BOXES, SIZE, detections, records


@pytest.fixture
def dataset():
    name = "evaluation_two_boxes"
    DatasetCatalog.register(name, records)
    MetadataCatalog.get(name).set(thing_classes=["cat", "dog"])
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def evaluate(evaluator, *per_image):
    evaluator.reset()
    for image_id, instances in zip((5, 9), per_image, strict=False):
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    return evaluator.evaluate()


def test_perfect_boxes_of_a_set_without_json_file(dataset):
    results = evaluate(COCOEvaluator(dataset), detections(), detections())
    assert list(results) == ["bbox"]
    perfect = pytest.approx(100)
    bbox = results["bbox"]
    assert {k: bbox[k] for k in ("AP", "AP50", "AP75", "APs", "APm", "AP-cat", "AP-dog")} == {
        **dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm"), perfect),
        **dict.fromkeys(("AP-cat", "AP-dog"), perfect),
    }
    assert math.isnan(bbox["APl"])  # no object is that large


def test_a_missed_object_halves_the_ap_of_its_class(dataset):
    # By hand: one of two dogs found, precision 1 up to recall 0.5: 51 of 101 points.
    only_cat = detections(BOXES[:1], (0,))
    results = evaluate(COCOEvaluator(dataset), detections(), only_cat)["bbox"]
    assert results["AP-cat"] == pytest.approx(100)
    assert results["AP-dog"] == pytest.approx(100 * 51 / 101)
    assert results["AP"] == pytest.approx((100 + 100 * 51 / 101) / 2)


def test_tasks_follow_the_predictions(dataset):
    found = detections(masks=True, keypoints=True)
    evaluator = COCOEvaluator(dataset, kpt_oks_sigmas=(0.05, 0.05))
    results = evaluate(evaluator, found, found)
    assert list(results) == ["bbox", "keypoints", "segm"]
    assert results["segm"]["AP"] == pytest.approx(100)
    assert results["keypoints"]["AP"] == pytest.approx(100)


def test_changes_of_the_data_set_count_at_once(dataset, tmp_path):
    first = COCOEvaluator(dataset, output_dir=str(tmp_path))
    assert evaluate(first, detections(), detections())["bbox"]["AP"] == pytest.approx(100)
    DatasetCatalog.remove(dataset)
    fewer = [{**r, "annotations": r["annotations"][:1]} for r in records()]
    DatasetCatalog.register(dataset, lambda: fewer)
    second = COCOEvaluator(dataset, output_dir=str(tmp_path))
    assert math.isnan(evaluate(second, detections(), detections())["bbox"]["AP-dog"])


def test_no_predictions_give_nan_for_boxes_only(dataset):
    nothing = detections([], ())
    results = evaluate(COCOEvaluator(dataset), nothing, nothing)
    assert set(results["bbox"]) == {"AP", "AP50", "AP75", "APs", "APm", "APl"}
    assert all(math.isnan(v) for v in results["bbox"].values())


def test_no_images_give_nothing(dataset):
    assert evaluate(COCOEvaluator(dataset)) == {}


def test_subset_of_images(dataset):
    evaluator = COCOEvaluator(dataset)
    evaluate(evaluator, detections())
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100 * 51 / 101)
    assert evaluator.evaluate(img_ids=[5])["bbox"]["AP"] == pytest.approx(100)


def test_files_are_written(dataset, tmp_path):
    evaluate(COCOEvaluator(dataset, output_dir=str(tmp_path / "out")), detections(), detections())
    rows = json.loads((tmp_path / "out/coco_instances_results.json").read_text())
    assert len(rows) == 4
    assert rows[0] == {
        "image_id": 5, "category_id": 0, "bbox": [10, 10, 30, 40], "score": pytest.approx(0.9)
    }  # fmt: skip
    saved = torch.load(tmp_path / "out/instances_predictions.pth", weights_only=True)
    assert [p["image_id"] for p in saved] == [5, 9]


def test_category_ids_of_the_data_set_and_names_of_classes(dataset, tmp_path):
    # Contiguous ids in another order than the category ids.
    MetadataCatalog.get(dataset).set(thing_dataset_id_to_contiguous_id={7: 1, 90: 0})
    evaluator = COCOEvaluator(dataset, output_dir=str(tmp_path))
    results = evaluate(evaluator, detections(), detections(BOXES[:1], (0,)))["bbox"]
    rows = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert {row["category_id"] for row in rows} == {7, 90}
    assert results["AP-cat"] == pytest.approx(100)
    assert results["AP-dog"] < 60


@pytest.mark.parametrize("mapping", [None, {7: 1, 90: 0}])
def test_class_out_of_range_names_the_classes(dataset, mapping):
    if mapping:
        MetadataCatalog.get(dataset).set(thing_dataset_id_to_contiguous_id=mapping)
    with pytest.raises(ValueError, match=r"has class 2, but dataset .* has classes 0 to 1"):
        evaluate(COCOEvaluator(dataset), detections(classes=(0, 2)))


def test_unknown_sigmas_are_told_and_wrong_ones_are_an_error(dataset, caplog):
    found = detections(keypoints=True)
    results = evaluate(COCOEvaluator(dataset), found, found)
    assert results["keypoints"]["AP"] == pytest.approx(100)
    assert "TEST.KEYPOINT_OKS_SIGMAS is empty" in caplog.text
    with pytest.raises(ValueError, match=r"predicts 2 keypoints, .* has 2, and there are 3 OKS"):
        evaluate(COCOEvaluator(dataset, kpt_oks_sigmas=(0.1, 0.1, 0.1)), found, found)


def test_table_is_in_the_log(dataset, caplog):
    caplog.set_level(logging.INFO)
    evaluate(COCOEvaluator(dataset), detections(), detections())
    table = next(r.message for r in caplog.records if "Evaluation results for bbox" in r.message)
    header = [cell.strip() for cell in table.splitlines()[1].strip("|").split("|")]
    assert header == ["bbox", "all", "cat", "dog"]


def test_older_signature_with_a_config_still_works(dataset):
    cfg = get_cfg()
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1, 0.2]
    evaluator = COCOEvaluator(dataset, cfg, False, None)
    assert evaluator._kpt_oks_sigmas == [0.1, 0.2] and evaluator._tasks is None


def test_unknown_arguments_are_named(dataset):
    with pytest.raises(ValueError, match="no task 'boxes'"):
        COCOEvaluator(dataset, ("boxes",))
    with pytest.raises(ValueError, match="max_dets_per_image"):
        COCOEvaluator(dataset, max_dets_per_image=[1, 2])


def test_recall_of_proposals(dataset, tmp_path):
    # By hand: two of four objects covered exactly; the others are not covered at all.
    proposals = Instances(SIZE)
    proposals.proposal_boxes = Boxes(torch.tensor([BOXES[0], [0.0, 0.0, 4.0, 4.0]]))
    proposals.objectness_logits = torch.tensor([0.1, 2.0])
    evaluator = COCOEvaluator(dataset, output_dir=str(tmp_path))
    evaluator.reset()
    for image_id in (5, 9):
        evaluator.process([{"image_id": image_id}], [{"proposals": proposals}])
    recalls = evaluator.evaluate()["box_proposals"]
    assert recalls["AR@100"] == pytest.approx(50)
    assert recalls["ARs@1000"] == pytest.approx(0)  # dogs: 30 x 25
    assert recalls["ARm@1000"] == pytest.approx(100)
    assert math.isnan(recalls["ARl@100"])
    with open(tmp_path / "box_proposals.pkl", "rb") as f:
        saved = pickle.load(f)
    assert saved["ids"] == [5, 9] and saved["boxes"][0].shape == (2, 4)
