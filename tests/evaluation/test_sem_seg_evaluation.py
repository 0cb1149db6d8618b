"""IoU and accuracy worked by hand, ground truth of every kind, and mistakes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.evaluation import SemSegEvaluator
from d2lite.evaluation.sem_seg_evaluation import _boundary, load_image_into_numpy_array


@pytest.fixture
def dataset(tmp_path):
    """One image of 20 x 20: left half class 0, right half class 1, last row ignored."""
    labels = np.zeros((20, 20), np.uint8)
    labels[:, 10:], labels[19] = 1, 255
    Image.fromarray(labels).save(tmp_path / "truth.png")
    record = {"file_name": "a.jpg", "sem_seg_file_name": str(tmp_path / "truth.png")}
    name = "evaluation_halves"
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).set(stuff_classes=["left", "right", "never"], ignore_label=255)
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def one_hot(labels):
    return torch.nn.functional.one_hot(torch.as_tensor(labels), 3).permute(2, 0, 1).float()


def test_worked_by_hand(dataset):
    pred = np.zeros((20, 20), np.int64)
    pred[:, 15:] = 1
    evaluator = SemSegEvaluator(dataset, distributed=False)
    evaluator.process([{"file_name": "a.jpg"}], [{"sem_seg": one_hot(pred)}])
    results = evaluator.evaluate()["sem_seg"]
    assert results["IoU-left"] == pytest.approx(100 * 10 / 15)
    assert results["IoU-right"] == pytest.approx(50)
    assert results["mIoU"] == pytest.approx(100 * (10 / 15 + 0.5) / 2)  # "never" does not occur
    assert results["ACC-left"] == pytest.approx(100) and results["ACC-right"] == pytest.approx(50)
    assert results["pACC"] == pytest.approx(75)
    assert np.isnan(results["IoU-never"]) and np.isnan(results["ACC-never"])


def test_boundary_worked_by_hand():
    # 20 x 20 pixels: 2% of the diagonal is less than one, so the boundary is one pixel wide.
    labels = np.zeros((20, 20), np.int64)
    labels[5:10, 5:10] = 3
    expected = labels.copy()
    expected[6:9, 6:9] = 0
    np.testing.assert_array_equal(_boundary(labels), expected)


def test_labels_that_are_drawn_on_demand():
    record = DatasetCatalog.get("shapes_sem_seg_val")[0]
    labels = load_image_into_numpy_array(record["sem_seg_file_name"], dtype=int)
    assert labels.shape == (record["height"], record["width"])
    evaluator = SemSegEvaluator("shapes_sem_seg_val", distributed=False)
    scores = torch.nn.functional.one_hot(torch.from_numpy(labels), 5).permute(2, 0, 1)
    evaluator.process([record], [{"sem_seg": scores}])
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == pytest.approx(100)


def test_ids_of_the_data_set_are_written(dataset, tmp_path):
    MetadataCatalog.get(dataset).set(stuff_dataset_id_to_contiguous_id={50: 0, 60: 1, 70: 2})
    evaluator = SemSegEvaluator(dataset, distributed=False, output_dir=str(tmp_path))
    pred = np.ones((20, 20), np.int64)
    evaluator.process([{"file_name": "a.jpg"}], [{"sem_seg": one_hot(pred)}])
    evaluator.evaluate()
    rows = json.loads((tmp_path / "sem_seg_predictions.json").read_text())
    assert [row["category_id"] for row in rows] == [60]


def test_mistakes_are_named(dataset, tmp_path):
    with pytest.raises(ValueError, match=r"num_classes is 7, but dataset .* has 3"):
        SemSegEvaluator(dataset, num_classes=7)
    evaluator = SemSegEvaluator(dataset, distributed=False)
    with pytest.raises(
        ValueError, match=r"truth.png: labels have size \(20, 20\), but .* \(5, 5\)"
    ):
        pred = np.zeros((5, 5), np.int64)
        evaluator.process([{"file_name": "a.jpg"}], [{"sem_seg": one_hot(pred)}])
    Image.fromarray(np.full((20, 20), 77, np.uint8)).save(tmp_path / "truth.png")
    with pytest.raises(ValueError, match=r"truth.png: has label 77, but .* classes 0 to 2"):
        pred = np.zeros((20, 20), np.int64)
        evaluator.process([{"file_name": "a.jpg"}], [{"sem_seg": one_hot(pred)}])


def test_labels_of_all_images_are_checked_before_training(dataset, tmp_path):
    Image.fromarray(np.full((20, 20), 7, np.uint8)).save(tmp_path / "other.png")
    SemSegEvaluator(dataset).check()
    other = {"file_name": "b.jpg", "sem_seg_file_name": str(tmp_path / "other.png")}
    records = [*DatasetCatalog.get(dataset), other]
    DatasetCatalog.remove(dataset)
    DatasetCatalog.register(dataset, lambda: records)
    with pytest.raises(ValueError, match=r"other\.png: has label 7, but"):
        SemSegEvaluator(dataset).check()


def test_a_dataset_without_names_of_labels_is_told(dataset):
    MetadataCatalog.remove(dataset)
    with pytest.raises(ValueError, match="its metadata has no stuff_classes"):
        SemSegEvaluator(dataset)
