"""Cityscapes' scripts find and read what the evaluators write."""

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.data import MetadataCatalog
from d2lite.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from d2lite.structures import Instances

pytest.importorskip("cityscapesscripts")

SIZE = (64, 128)
STEM = "frankfurt_000000_000001"
ROAD, CAR = (7, 0), (26, 13)  # (id, train id) of Cityscapes


@pytest.fixture
def dataset(tmp_path):
    """One image: road, with one car of 40 x 60 pixels."""
    folder = tmp_path / "gtFine" / "frankfurt"
    folder.mkdir(parents=True)
    labels = np.full(SIZE, ROAD[0], np.uint8)
    instances = np.full(SIZE, ROAD[0], np.uint16)
    labels[10:50, 20:80] = CAR[0]
    instances[10:50, 20:80] = 1000 * CAR[0]
    Image.fromarray(labels).save(folder / f"{STEM}_gtFine_labelIds.png")
    Image.fromarray(instances).save(folder / f"{STEM}_gtFine_instanceIds.png")
    name = "evaluation_cityscapes"
    MetadataCatalog.get(name).set(gt_dir=str(tmp_path / "gtFine"), thing_classes=["person", "car"])
    yield name
    MetadataCatalog.remove(name)


def test_perfect_and_half_semantic_segmentation(dataset):
    evaluator = CityscapesSemSegEvaluator(dataset)
    for columns, car_iou in ((80, 100.0), (50, 50.0)):
        scores = torch.zeros(19, *SIZE)
        scores[ROAD[1]] = 0.5
        scores[CAR[1], 10:50, 20:columns] = 1
        evaluator.reset()
        evaluator.process([{"file_name": f"x/{STEM}_leftImg8bit.png"}], [{"sem_seg": scores}])
        results = evaluator.evaluate()["sem_seg"]
        road = 128 * 64 - 40 * 60
        road_iou = 100 * road / (road + 40 * (80 - columns))
        assert results["IoU"] == pytest.approx((car_iou + road_iou) / 2)
        assert set(results) == {"IoU", "iIoU", "IoU_sup", "iIoU_sup"}


def test_instances(dataset):
    evaluator = CityscapesInstanceEvaluator(dataset)
    # The IoU of the second mask is 2/3: it counts at thresholds of 0.5 to 0.65, 4 of 10.
    for columns, ap in ((80, 100.0), (60, 40.0)):
        found = Instances(SIZE)
        found.pred_masks = torch.zeros(1, *SIZE, dtype=torch.bool)
        found.pred_masks[0, 10:50, 20:columns] = True
        found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([1])
        evaluator.reset()
        evaluator.process([{"file_name": f"{STEM}_leftImg8bit.png"}], [{"instances": found}])
        results = evaluator.evaluate()["segm"]
        assert results == {"AP": pytest.approx(ap), "AP50": pytest.approx(100)}


def test_missing_ground_truth_is_named(dataset, tmp_path):
    name = "evaluation_cityscapes_empty"
    MetadataCatalog.get(name).set(gt_dir=str(tmp_path / "nothing"))
    evaluator = CityscapesSemSegEvaluator(name)
    with pytest.raises(FileNotFoundError, match="labelIds"):
        evaluator.check()
    evaluator.reset()
    with pytest.raises(FileNotFoundError, match="labelIds"):
        evaluator.evaluate()
    MetadataCatalog.remove(name)


def test_what_is_missing_is_told_before_training(dataset):
    CityscapesInstanceEvaluator(dataset).check()
    with pytest.raises(ValueError, match="its metadata has no gt_dir"):
        CityscapesInstanceEvaluator("evaluation_cityscapes_by_hand").check()
    MetadataCatalog.remove("evaluation_cityscapes_by_hand")
