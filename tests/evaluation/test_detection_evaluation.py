"""What the evaluators of COCO and LVIS share, with metrics that are counts."""

from types import SimpleNamespace

import pytest
import torch

from d2lite.evaluation.detection_evaluation import DetectionEvaluator
from d2lite.structures import Boxes, Instances

PLAIN = {"image_id": 3, "bbox": [0, 0, 1, 1]}


class Counting(DetectionEvaluator):
    """Each task's metric is the number of its results; their category ids are stored."""

    _metrics = {"bbox": ("count",), "segm": ("count",)}
    _results_file = "results.json"
    _do_evaluation = True

    def __init__(self, name, tasks=None, annotations=(PLAIN,), output_dir=None):
        super().__init__(name, tasks, False, output_dir)
        self.truth = SimpleNamespace(dataset={"annotations": list(annotations)})

    @property
    def _truth(self):
        return self.truth

    def _evaluate_task(self, results, task, img_ids):
        self.ids = [row["category_id"] for row in results]
        return {"count": len(results)}

    def _class_metrics(self):
        return ["count-cat"]


@pytest.fixture
def dataset(register):
    """Classes 0, 1 and 2, of which the last has no category in the files."""
    return register(
        "evaluation_counts",
        [],
        thing_classes=["cat", "dog", "cow"],
        thing_dataset_id_to_contiguous_id={7: 0, 4: 1},
    )


def found(*classes: int) -> Instances:
    boxes = Boxes(torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(classes), 1))
    scores, pred_classes = torch.ones(len(classes)), torch.tensor(classes, dtype=torch.int64)
    return Instances((4, 4), pred_boxes=boxes, scores=scores, pred_classes=pred_classes)


def evaluate(evaluator, *outputs):
    evaluator.reset()
    for output in outputs:
        evaluator.process([{"image_id": 3}], [output])
    return evaluator.evaluate()


def test_classes_become_ids_of_the_files_and_those_without_any_are_left_out(dataset):
    evaluator = Counting(dataset)
    results = evaluate(evaluator, {"instances": found(1, 2)}, {"instances": found(0)})
    assert results == {"bbox": {"count": 2}} and evaluator.ids == [4, 7]


@pytest.mark.parametrize("index", [3, -1])
def test_classes_that_do_not_exist_are_an_error(dataset, index):
    with pytest.raises(ValueError, match=rf"class {index}"):
        evaluate(Counting(dataset), {"instances": found(0, index)})


def test_results_do_not_change_with_what_they_are_given_to(dataset):
    evaluator = Counting(dataset)
    evaluate(evaluator, {"instances": found(0)})["bbox"]["count"] = 9
    assert evaluator._results["bbox"]["count"] == 1


def test_outputs_without_predictions_are_told(dataset, caplog):
    assert evaluate(Counting(dataset), {"sem_seg": 1}) == {}
    assert "[Counting] Did not receive valid predictions." in caplog.text


def test_without_annotations_results_are_only_saved(dataset, tmp_path):
    evaluator = Counting(dataset, output_dir=str(tmp_path))
    evaluator._do_evaluation = False
    assert evaluate(evaluator, {"instances": found(0)}) == {}
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json",
        "instances_predictions.pth",
    }
    assert evaluator.check() == set()


def test_tasks_must_exist(dataset):
    with pytest.raises(
        ValueError, match=r"Counting has no task 'boxes'; it has \['bbox', 'segm'\]"
    ):
        Counting(dataset, ["bbox", "boxes"])


MASKED = {**PLAIN, "segmentation": [[0, 0, 1, 0, 1, 1]]}


def task_metrics(names: set[str]) -> set[str]:
    assert "box_proposals/AR@100" in names
    return {name for name in names if not name.startswith("box_proposals/")}


@pytest.mark.parametrize(
    "annotations, wanted, tasks",
    [
        ([PLAIN], ("bbox",), {"bbox"}),
        ([MASKED], ("bbox", "segm"), {"bbox", "segm"}),
        ([MASKED], ("bbox", "keypoints"), {"bbox"}),  # not a task of this evaluator
        ([], ("bbox",), {"bbox"}),
    ],
)
def test_metrics_are_known_before_a_training(dataset, annotations, wanted, tasks, caplog):
    found = Counting(dataset, annotations=annotations).check(wanted)
    assert task_metrics(found) == {f"{t}/{m}" for t in tasks for m in ("count", "count-cat")}
    assert not caplog.records


def test_tasks_without_ground_truth_are_a_warning_or_an_error_if_asked_for(dataset, caplog):
    found = Counting(dataset).check(("bbox", "segm"))
    assert task_metrics(found) == {"bbox/count", "bbox/count-cat"}
    assert f"dataset '{dataset}' has no masks: the model's are not evaluated" in caplog.text
    with pytest.raises(ValueError, match=rf"'{dataset}' has no masks to evaluate 'segm'"):
        Counting(dataset, "segm").check()


def test_masks_of_some_objects_only_are_an_error(dataset):
    evaluator = Counting(dataset, annotations=[MASKED, {**PLAIN, "image_id": 8}])
    with pytest.raises(ValueError, match=r"1 of the 2 annotations have no 'segmentation', .* 8;"):
        evaluator.check()
