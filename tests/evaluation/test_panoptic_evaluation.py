"""The evaluator of panoptic segmentation, on the drawn dataset."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.data.image_schemes import find_image_reader
from d2lite.evaluation import COCOPanopticEvaluator
from d2lite.utils.segment_colors import rgb_to_id


@pytest.fixture
def dataset():
    """The first three images of the drawn panoptic set."""
    records = DatasetCatalog.get("shapes_panoptic_val")[:3]
    name = "evaluation_three_panoptic"
    DatasetCatalog.register(name, lambda: records)
    values = MetadataCatalog.get("shapes_panoptic_val").as_dict()
    values.pop("name")
    MetadataCatalog.get(name).set(**values)
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def true_output(record):
    name = record["pan_seg_file_name"]
    ids = rgb_to_id(np.asarray(find_image_reader(name)(name)))
    return {"panoptic_seg": (torch.from_numpy(ids), record["segments_info"])}


def test_ground_truth_as_prediction_is_perfect(dataset, tmp_path):
    evaluator = COCOPanopticEvaluator(dataset, str(tmp_path))
    evaluator.reset()
    for record in DatasetCatalog.get(dataset):
        evaluator.process([record], [true_output(record)])
    results = evaluator.evaluate()["panoptic_seg"]
    assert results == {
        m + s: pytest.approx(100) for s in ("", "_th", "_st") for m in ("PQ", "SQ", "RQ")
    }
    saved = json.loads((tmp_path / "predictions.json").read_text())
    assert len(saved["annotations"]) == 3
    first = DatasetCatalog.get(dataset)[0]
    files = sorted((tmp_path / "panoptic_predictions").iterdir())
    np.testing.assert_array_equal(
        rgb_to_id(np.asarray(Image.open(files[0]))), true_output(first)["panoptic_seg"][0]
    )


def test_figures_do_not_depend_on_where_the_truth_is_read(dataset, tmp_path):
    """A json file and PNG files, as COCO has them, where the dicts have none of it."""
    evaluator = COCOPanopticEvaluator(dataset)
    categories, images = evaluator._categories(), evaluator._true_images()
    annotations = []
    for image in images:
        stem = f"{image.image_id}.png"
        Image.fromarray(find_image_reader(image.png)(image.png)).save(tmp_path / stem)
        row = {"image_id": image.image_id, "file_name": stem, "segments_info": image.segments}
        annotations.append(row)
    json_file = tmp_path / "panoptic.json"
    json_file.write_text(json.dumps({"categories": categories, "annotations": annotations}))
    results, records = [], DatasetCatalog.get(dataset)
    for use_file in (False, True):
        if use_file:
            MetadataCatalog.get(dataset).set(
                panoptic_json=str(json_file), panoptic_root=str(tmp_path)
            )
            DatasetCatalog.remove(dataset)
            DatasetCatalog.register(dataset, lambda: [{"image_id": r["image_id"]} for r in records])
        evaluator = COCOPanopticEvaluator(dataset)
        for record in records:
            ids, infos = true_output(record)["panoptic_seg"]
            things = [s for s in infos if s["isthing"]]
            kept = torch.tensor([s["id"] for s in things])
            ids = torch.where(torch.isin(ids, kept), ids, 0)  # only the things are found
            evaluator.process([record], [{"panoptic_seg": (ids, things)}])
        results.append(evaluator.evaluate()["panoptic_seg"])
    assert results[0] == results[1]
    assert results[0]["PQ_th"] == pytest.approx(100) and results[0]["PQ_st"] == 0


def test_segments_may_be_coded_in_the_ids(dataset):
    MetadataCatalog.get(dataset).set(label_divisor=1000)
    evaluator = COCOPanopticEvaluator(dataset)
    ids = torch.tensor([[2003, -1], [2003, 2004]])
    file = DatasetCatalog.get(dataset)[0]
    evaluator.process([file], [{"panoptic_seg": (ids, None)}])
    infos = evaluator._predictions[0]["segments_info"]
    # Class 2 is a thing there; its id in the dataset is 3.
    assert infos == [{"id": 2004, "category_id": 3}, {"id": 2005, "category_id": 3}]


def test_missing_image_is_named(dataset):
    evaluator = COCOPanopticEvaluator(dataset)
    with pytest.raises(ValueError, match="no prediction for image 0"):
        evaluator.evaluate()


def test_faults_of_the_ground_truth_are_told_before_training(dataset, tmp_path):
    records = DatasetCatalog.get(dataset)
    evaluator = COCOPanopticEvaluator(dataset)
    evaluator.check()
    good = dict(records[0])
    records[0]["segments_info"] = [{**s, "id": 10**6 + s["id"]} for s in good["segments_info"]]
    with pytest.raises(ValueError, match="of which none is in the list of its segments"):
        evaluator.check()
    records[0].update(good, pan_seg_file_name=str(tmp_path / "none.png"))
    with pytest.raises(FileNotFoundError, match=r"1 of the 3 .*none\.png"):
        evaluator.check()
