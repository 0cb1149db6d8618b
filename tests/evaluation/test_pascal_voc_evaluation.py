"""The evaluator on datasets given by a URI; its figures are held by the golden case."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.data import DatasetCatalog
from d2lite.evaluation import PascalVOCDetectionEvaluator, evaluator_for
from d2lite.evaluation.pascal_voc_evaluation import voc_eval
from d2lite.structures import Boxes, Instances

OBJECT = "<object><name>{}</name><difficult>0</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"  # noqa: E501


@pytest.fixture
def folder(tmp_path):
    """Images "a" with a cat and a dog, and "b" with a dog."""
    for sub in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / sub).mkdir(parents=True)
    objects = {"a": [("cat", 1, 1, 20, 20), ("dog", 30, 5, 50, 40)], "b": [("dog", 2, 3, 30, 30)]}
    for image, rows in objects.items():
        items = "".join(OBJECT.format(*row) for row in rows)
        size = "<size><width>60</width><height>50</height></size>"
        xml = f"<annotation>{size}{items}</annotation>"
        (tmp_path / "Annotations" / f"{image}.xml").write_text(xml)
        blank = Image.fromarray(np.zeros((50, 60, 3), np.uint8))
        blank.save(tmp_path / "JPEGImages" / f"{image}.jpg")
    (tmp_path / "ImageSets/Main/val.txt").write_text("a\nb\n")
    return tmp_path


def outputs_of(record):
    """The ground truth as detections."""
    rows = record["annotations"]
    found = Instances((record["height"], record["width"]))
    found.pred_boxes = Boxes(torch.tensor([r["bbox"] for r in rows], dtype=torch.float32))
    found.scores = torch.linspace(0.9, 0.8, len(rows))
    found.pred_classes = torch.tensor([r["category_id"] for r in rows])
    return {"instances": found}


@pytest.mark.parametrize("year", [2007, 2012])
def test_ground_truth_as_prediction_is_perfect(folder, year):
    name = f"voc:{folder}?split=val&evaluator=pascal_voc&year={year}"
    evaluator = evaluator_for(name)
    assert isinstance(evaluator, PascalVOCDetectionEvaluator)
    for record in DatasetCatalog.get(name):
        evaluator.process([record], [outputs_of(record)])
    perfect = pytest.approx(100)
    assert evaluator.evaluate() == {"bbox": {"AP": perfect, "AP50": perfect, "AP75": perfect}}


def test_classes_without_objects_are_left_out_of_the_mean(folder):
    name = f"voc:{folder}?split=val&classes=cat,dog,emu"
    evaluator = PascalVOCDetectionEvaluator(name)
    record = DatasetCatalog.get(name)[0]
    evaluator.process([record], [outputs_of(record)])
    # Dogs: one of two, at a precision of 1.
    assert evaluator.evaluate()["bbox"]["AP50"] == pytest.approx((100 + 50) / 2)


def test_no_predictions(folder):
    evaluator = PascalVOCDetectionEvaluator(f"voc:{folder}?split=val")
    assert evaluator.evaluate()["bbox"] == {"AP": 0, "AP50": 0, "AP75": 0}


def test_no_objects_at_all_give_nan(folder):
    size = "<size><width>60</width><height>50</height></size>"
    (folder / "Annotations/a.xml").write_text(f"<annotation>{size}</annotation>")
    evaluator = PascalVOCDetectionEvaluator(f"voc:{folder}?split=val&classes=cat")
    assert math.isnan(evaluator.evaluate()["bbox"]["AP"])


def test_difficult_objects_travel_with_the_dicts_and_do_not_count(folder):
    """By VOC's rules a difficult object that is not found is no miss."""
    xml = folder / "Annotations/a.xml"
    xml.write_text(xml.read_text().replace("<difficult>0", "<difficult>1"))
    evaluator = PascalVOCDetectionEvaluator(f"voc:{folder}?split=val")
    record = DatasetCatalog.get(f"voc:{folder}?split=val")[1]
    evaluator.process([record], [outputs_of(record)])
    assert evaluator.evaluate()["bbox"]["AP50"] == pytest.approx(100)


def test_predictions_stay_numbers_rounded_as_in_vocs_files(folder):
    evaluator = PascalVOCDetectionEvaluator(f"voc:{folder}?split=val")
    found = Instances((50, 60), pred_boxes=Boxes(torch.tensor([[1.04, 2.0, 3.06, 4.0]])))
    found.scores, found.pred_classes = torch.tensor([0.12345]), torch.tensor([1])
    evaluator.process([{"image_id": "a"}], [{"instances": found}])
    assert dict(evaluator._predictions) == {1: [("a", 0.123, 2.0, 3.0, 3.1, 4.0)]}


@pytest.mark.parametrize(
    "stem, encoding, list_encoding, extension",
    [
        ("my photo {} (1)", "utf-8", "utf-8", "jpg"),
        ("img{}", "utf-16", "utf-8", "jpg"),
        ("img{}", "utf-8", "utf-8-sig", "tif"),
        ("img{}", "utf-8", "utf-16", "webp"),
    ],
)
def test_what_loads_is_evaluated(tmp_path, stem, encoding, list_encoding, extension):
    """Names with spaces, texts with byte order marks, images of other kinds."""
    for sub in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / sub).mkdir(parents=True)
    size = "<size><width>60</width><height>50</height></size>"
    xml = f"<annotation>{size}{OBJECT.format('cat', 1, 1, 20, 20)}</annotation>"
    names = [stem.format(i) for i in range(2)]
    for name in names:
        (tmp_path / "Annotations" / f"{name}.xml").write_text(xml, encoding=encoding)
        blank = Image.fromarray(np.zeros((50, 60, 3), np.uint8))
        blank.save(tmp_path / "JPEGImages" / f"{name}.{extension}")
    (tmp_path / "ImageSets/Main/val.txt").write_text("\n".join(names), encoding=list_encoding)
    for kind in ("coco", "pascal_voc"):
        uri = f"voc:{tmp_path}?split=val&evaluator={kind}"
        evaluator = evaluator_for(uri)
        evaluator.reset()
        for record in DatasetCatalog.get(uri):
            evaluator.process([record], [outputs_of(record)])
        assert evaluator.evaluate()["bbox"]["AP50"] == pytest.approx(100)


def test_subclasses_may_evaluate_with_the_files(folder, tmp_path):
    name = f"voc:{folder}?split=val"
    evaluator = PascalVOCDetectionEvaluator(name)
    (tmp_path / "dog.txt").write_text("a 0.9 30 5 50 40\nb 0.8 2 3 30 30\n")
    recall, precision, ap = voc_eval(
        str(tmp_path / "{}.txt"), evaluator._anno_file_template, evaluator._image_set_path, "dog"
    )
    assert recall.tolist() == [0.5, 1.0] and precision.tolist() == [1.0, 1.0] and ap == 1.0
