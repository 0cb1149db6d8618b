"""LVISEvaluator around the lvis package; its figures are held by the golden case."""

import json
import math
import sys

import pytest
import torch

from d2lite.config import get_cfg
from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.lvis import register_lvis_instances
from d2lite.evaluation import LVISEvaluator
from d2lite.structures import Boxes, Instances

pytest.importorskip("lvis")

BOX = [10.0, 10.0, 30.0, 40.0]  # XYWH


@pytest.fixture
def dataset(tmp_path):
    image = {
        "id": 7,
        "height": 80,
        "width": 90,
        "coco_url": "http://x/val2017/7.jpg",
        "neg_category_ids": [2],
        "not_exhaustive_category_ids": [],
    }
    x, y, w, h = BOX
    annotation = {
        "id": 1,
        "image_id": 7,
        "category_id": 1,
        "bbox": BOX,
        "area": w * h,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
    }
    categories = [
        {"id": i, "name": n, "frequency": "f", "synset": n, "image_count": 1, "instance_count": 1}
        for i, n in ((1, "cat"), (2, "dog"))
    ]
    content = {"images": [image], "annotations": [annotation], "categories": categories}
    (tmp_path / "lvis.json").write_text(json.dumps(content))
    name = "evaluation_lvis_one"
    register_lvis_instances(name, {}, str(tmp_path / "lvis.json"), str(tmp_path))
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def detections(boxes, classes):
    found = Instances((80, 90))
    tensor = torch.tensor(boxes).reshape(-1, 4)
    found.pred_boxes = Boxes(torch.cat([tensor[:, :2], tensor[:, :2] + tensor[:, 2:]], dim=1))
    found.scores = torch.linspace(0.9, 0.5, len(boxes))
    found.pred_classes = torch.tensor(classes, dtype=torch.int64)
    return {"instances": found}


def test_perfect_and_written(dataset, tmp_path):
    evaluator = LVISEvaluator(dataset, output_dir=str(tmp_path / "out"))
    evaluator.process([{"image_id": 7}], [detections([BOX], [0])])
    results = evaluator.evaluate()
    assert list(results) == ["bbox"] and results["bbox"]["AP"] == pytest.approx(100)
    rows = json.loads((tmp_path / "out/lvis_instances_results.json").read_text())
    assert [row["category_id"] for row in rows] == [1]  # ids count from 1


def test_limit_of_detections(dataset):
    wrong = [60.0, 50.0, 20.0, 20.0]
    for limit, ap in ((1, 0), (2, 50)):
        evaluator = LVISEvaluator(dataset, max_dets_per_image=limit)
        evaluator.process([{"image_id": 7}], [detections([wrong, BOX], [0, 0])])
        assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(ap)


def test_nothing_found_and_nothing_seen(dataset):
    evaluator = LVISEvaluator(dataset)
    assert evaluator.evaluate() == {}
    evaluator.process([{"image_id": 7}], [detections([], [])])
    assert all(math.isnan(v) for v in evaluator.evaluate()["bbox"].values())


def test_recall_of_proposals(dataset):
    proposals = Instances((80, 90))
    proposals.proposal_boxes = Boxes(torch.tensor([[10.0, 10.0, 40.0, 50.0]]))
    proposals.objectness_logits = torch.zeros(1)
    evaluator = LVISEvaluator(dataset)
    evaluator.process([{"image_id": 7}], [{"proposals": proposals}])
    assert evaluator.evaluate()["box_proposals"]["AR@100"] == pytest.approx(100)


def test_unknown_task_and_missing_package(dataset, monkeypatch):
    with pytest.raises(ValueError, match="no task 'keypoints'"):
        LVISEvaluator(dataset, ("keypoints",))
    monkeypatch.setitem(sys.modules, "lvis", None)
    monkeypatch.setitem(sys.modules, "lvis.eval", None)
    with pytest.raises(ImportError, match=r"pip install 'd2lite\[lvis\]'"):
        LVISEvaluator(dataset)


def test_what_it_shares_with_the_evaluator_of_coco(dataset, tmp_path):
    evaluator = LVISEvaluator(dataset, get_cfg(), output_dir=str(tmp_path))  # the older signature
    assert evaluator._tasks is None
    assert {"bbox/APr", "segm/APf"} < evaluator.check(("bbox", "segm", "keypoints"))
    wrong, right = detections([[60.0, 50.0, 20.0, 20.0]], [0]), detections([BOX], [0])
    evaluator.process([{"image_id": 7}], [right])
    assert evaluator.evaluate(img_ids=[7])["bbox"]["AP"] == pytest.approx(100)
    assert evaluator.evaluate(img_ids=[])["bbox"]["AP"] != pytest.approx(100)
    evaluator.reset()
    evaluator.process([{"image_id": 7}], [wrong])
    with pytest.raises(ValueError, match=r"has class 5, .*classes 0 to 1 \(cat, dog\)"):
        evaluator.process([{"image_id": 7}], [detections([BOX], [5])])
        evaluator.evaluate()


def test_a_subclass_may_take_the_predictions_alone(dataset):
    class Own(LVISEvaluator):
        def _eval_predictions(self, predictions):
            self._results["bbox"] = {"seen": len(predictions)}

    evaluator = Own(dataset)
    evaluator.process([{"image_id": 7}], [detections([BOX], [0])])
    assert evaluator.evaluate() == {"bbox": {"seen": 1}}
