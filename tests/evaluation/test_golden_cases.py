"""The evaluators report detectron2's figures on the golden cases."""

import json
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image

from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets import load_coco_json, register_coco_instances
from d2lite.data.datasets.lvis import register_lvis_instances
from d2lite.data.datasets.pascal_voc import register_pascal_voc
from d2lite.evaluation import (
    COCOEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
    SemSegEvaluator,
)
from d2lite.structures import Boxes, Instances, polygons_to_bitmask
from tests.golden import load_case


@pytest.fixture
def data_name(request):
    """A name for a dataset, which is forgotten afterward."""
    name = f"evaluation_{request.node.name}"
    yield name
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)


def assert_results(got: dict, want: dict, tolerance: dict) -> None:
    """Same tasks, same metrics, same figures; None in the stored ones stands for nan."""
    assert {task: set(metrics) for task, metrics in got.items()} == {
        task: set(metrics) for task, metrics in want.items()
    }
    for task, metrics in want.items():
        for metric, value in metrics.items():
            found = got[task][metric]
            if value is None:
                assert math.isnan(found), f"{task}/{metric}: {found} is not nan"
            else:
                approx = pytest.approx(value, rel=tolerance["rtol"], abs=tolerance["atol"])
                assert found == approx, f"{task}/{metric}"


def instances_of(prediction: dict, size: tuple[int, int], with_masks: bool) -> Instances:
    """Stored predictions of an image as Instances."""
    instances = Instances(size)
    instances.pred_boxes = Boxes(torch.tensor(prediction["boxes"]).reshape(-1, 4))
    instances.scores = torch.tensor(prediction["scores"])
    instances.pred_classes = torch.tensor(prediction["classes"], dtype=torch.int64)
    if with_masks:
        masks = [
            polygons_to_bitmask([np.array(p) for p in polygons], *size)
            for polygons in prediction["polygons"]
        ]
        instances.pred_masks = torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, *size)
    if "keypoints" in prediction:
        instances.pred_keypoints = torch.tensor(prediction["keypoints"])
    return instances


def run_evaluator(evaluator, images: list[dict], predictions: dict, with_masks: bool) -> dict:
    evaluator.reset()
    for image in images:
        prediction = predictions[str(image["id"])]
        instances = instances_of(prediction, (image["height"], image["width"]), with_masks)
        evaluator.process([{"image_id": image["id"]}], [{"instances": instances}])
    return evaluator.evaluate()


def write_images(folder, dataset: dict) -> None:
    for image in dataset["images"]:
        blank = np.zeros((image["height"], image["width"], 3), np.uint8)
        Image.fromarray(blank).save(folder / image["file_name"])


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("case_name", ["coco_bbox_segm", "coco_keypoints", "coco_max_dets"])
def test_coco_evaluator(case_name, fast, tmp_path, data_name):
    case = load_case(f"evaluation.{case_name}")
    dataset = case.inputs["dataset"]
    json_file = tmp_path / "truth.json"
    json_file.write_text(json.dumps(dataset))
    write_images(tmp_path, dataset)
    metadata = {}
    if "keypoint_names" in case.params:
        names = case.params["keypoint_names"]
        metadata = {"keypoint_names": names, "keypoint_flip_map": []}
    register_coco_instances(data_name, metadata, str(json_file), str(tmp_path))
    load_coco_json(str(json_file), str(tmp_path), data_name)
    tasks = tuple(case.params["tasks"])
    evaluator = COCOEvaluator(
        data_name, tasks, distributed=False, use_fast_impl=fast, **case.params.get("kw", {})
    )
    got = run_evaluator(evaluator, dataset["images"], case.inputs["predictions"], "segm" in tasks)
    assert_results(got, case.outputs["results"], case.tolerance["default"])


def test_lvis_evaluator(tmp_path, data_name):
    pytest.importorskip("lvis")
    case = load_case("evaluation.lvis")
    dataset = case.inputs["dataset"]
    json_file = tmp_path / "truth.json"
    json_file.write_text(json.dumps(dataset))
    register_lvis_instances(data_name, {}, str(json_file), str(tmp_path))
    evaluator = LVISEvaluator(data_name, tuple(case.params["tasks"]), distributed=False)
    got = run_evaluator(evaluator, dataset["images"], case.inputs["predictions"], True)
    assert_results(got, case.outputs["results"], case.tolerance["default"])
    assert not hasattr(np, "float"), "numpy itself must not be patched"


def write_voc(folder, objects: dict) -> None:
    for sub in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / sub).mkdir(parents=True)
    (folder / "ImageSets/Main/val.txt").write_text("\n".join(objects))
    for image_id, image in objects.items():
        root = ET.Element("annotation")
        size = ET.SubElement(root, "size")
        for key in ("width", "height"):
            ET.SubElement(size, key).text = str(image[key])
        for obj in image["objects"]:
            item = ET.SubElement(root, "object")
            for key in ("name", "difficult"):
                ET.SubElement(item, key).text = str(obj[key])
            for key in ("pose", "truncated"):
                ET.SubElement(item, key).text = "0"
            box = ET.SubElement(item, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), obj["bbox"], strict=True):
                ET.SubElement(box, key).text = str(value)
        ET.ElementTree(root).write(folder / "Annotations" / f"{image_id}.xml")
        blank = np.zeros((image["height"], image["width"], 3), np.uint8)
        Image.fromarray(blank).save(folder / "JPEGImages" / f"{image_id}.jpg")


@pytest.mark.parametrize("year", [2007, 2012])
def test_pascal_voc_evaluator(year, tmp_path, data_name):
    case = load_case("evaluation.pascal_voc")
    write_voc(tmp_path, case.inputs["objects"])
    register_pascal_voc(data_name, str(tmp_path), "val", year, case.params["class_names"])
    evaluator = PascalVOCDetectionEvaluator(data_name)
    evaluator.reset()
    for image_id, prediction in case.inputs["predictions"].items():
        size = tuple(case.inputs["objects"][image_id][k] for k in ("height", "width"))
        instances = instances_of(prediction, size, with_masks=False)
        evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    want = case.outputs[f"results_{year}"]
    assert_results(evaluator.evaluate(), want, case.tolerance["default"])


def test_sem_seg_evaluator(tmp_path, data_name):
    case = load_case("evaluation.sem_seg")
    classes, count = case.params["classes"], case.params["n"]
    records = [
        {"file_name": f"{i}.jpg", "sem_seg_file_name": str(tmp_path / f"{i}.png")}
        for i in range(count)
    ]
    for i, record in enumerate(records):
        Image.fromarray(np.array(case.inputs[f"gt{i}"])).save(record["sem_seg_file_name"])
    DatasetCatalog.register(data_name, lambda: records)
    MetadataCatalog.get(data_name).set(stuff_classes=classes, ignore_label=255)
    evaluator = SemSegEvaluator(data_name, distributed=False, output_dir=str(tmp_path / "out"))
    evaluator.reset()
    for i, record in enumerate(records):
        labels = case.tensor(f"pred{i}").long()
        scores = torch.nn.functional.one_hot(labels, len(classes)).permute(2, 0, 1).float()
        evaluator.process([record], [{"sem_seg": scores}])
    assert_results(evaluator.evaluate(), case.outputs["results"], case.tolerance["default"])
    saved = json.loads((tmp_path / "out" / "sem_seg_predictions.json").read_text())
    assert {row["file_name"] for row in saved} == {r["file_name"] for r in records}
