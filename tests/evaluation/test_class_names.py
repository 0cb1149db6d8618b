"""Classes of a model and of a dataset, matched by name."""

import pytest
import torch

from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.evaluation import DatasetEvaluator, DatasetEvaluators, MatchClasses, match_classes
from d2lite.evaluation.class_names import distinct_names, match_names
from d2lite.structures import Boxes, Instances


@pytest.mark.parametrize(
    "model, dataset, expected",
    [
        ("abc", "abc", [0, 1, 2]),
        ("abc", "cab", [1, 2, 0]),
        ("abc", "ac", [0, -1, 1]),
        ("ac", "abc", [0, 2]),
        ("abc", "cbd", [-1, 1, 0]),
        ("aab", "aab", [0, 1, 2]),
        ("aab", "baa", [1, 2, 0]),  # the second "a" is the second one there
        ("ab", "xy", [0, 1]),  # the same ones under other names
        (["cat", "dog"], ["Dog", " cat"], [1, 0]),
        ("aA", "Aa", [1, 0]),  # upper and lower case are different classes
    ],
)
def test_matched_by_name(model, dataset, expected):
    assert match_names(model, dataset) == expected


@pytest.mark.parametrize(
    "model, dataset, message",
    [
        ("ab", "xyz", "no class of d is known to the model: the model's are a, b; those of d x, y"),
        ("ab", "aab", "'a' occurs 1 times among the classes of the model and 2 times in d"),
    ],
)
def test_what_cannot_be_matched(model, dataset, message):
    with pytest.raises(ValueError, match=message):
        match_names(model, dataset, "d")


def test_repeated_names_are_told_apart():
    assert distinct_names(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]


class Recorder(DatasetEvaluator):
    """Keeps what it is given."""

    def __init__(self, **classes):
        self._metadata = MetadataCatalog.get("class_names_recorder").set(**classes)
        self.outputs = []

    def process(self, inputs, outputs):
        self.outputs += outputs

    def evaluate(self):
        return {"bbox": {"AP": 1.0, "AP-a": 1.0}}


@pytest.fixture(autouse=True)
def forget():
    yield
    if "class_names_recorder" in MetadataCatalog.list():
        MetadataCatalog.remove("class_names_recorder")


def test_detections_get_the_classes_of_the_dataset():
    recorder = Recorder(thing_classes=["c", "a"])
    evaluator = match_classes(recorder, {"thing_classes": ["a", "b", "c"]})
    found = Instances((9, 9), pred_classes=torch.tensor([0, 1, 2, 7]), scores=torch.arange(4.0))
    found.pred_boxes = Boxes(torch.zeros(4, 4))
    evaluator.process([{}], [{"instances": found, "proposals": found}])
    kept = recorder.outputs[0]["instances"]
    # Class b is not in the dataset, and class 7 has no name.
    assert kept.pred_classes.tolist() == [1, 0] and kept.scores.tolist() == [0, 2]
    assert found.pred_classes.tolist() == [0, 1, 2, 7]  # the model's own are not changed
    assert recorder.outputs[0]["proposals"] is found
    results = evaluator.evaluate()["bbox"]
    assert results["AP-a"] == 1 and torch.isnan(torch.tensor(results["AP-b"]))


def test_semantic_scores_get_the_classes_of_the_dataset():
    recorder = Recorder(stuff_classes=["sky", "road", "sea"])
    evaluator = match_classes(recorder, {"stuff_classes": ["road", "sky", "mud"]})
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None].expand(4, 2, 2)  # one has no name
    evaluator.process([{}], [{"sem_seg": scores}])
    moved = recorder.outputs[0]["sem_seg"][:, 0, 0]
    assert moved.tolist() == [2, 1, float("-inf")]
    assert int(recorder.outputs[0]["sem_seg"].argmax(dim=0)[0, 0]) == 0  # not "mud"


def test_panoptic_segments_get_the_classes_of_the_dataset():
    recorder = Recorder(thing_classes=["a"], stuff_classes=["sky", "road"])
    names = {"thing_classes": ["b", "a"], "stuff_classes": ["road", "sky"]}
    ids = torch.tensor([[1, 2], [3, 0]])
    segments = [
        {"id": 1, "isthing": True, "category_id": 0},
        {"id": 2, "isthing": True, "category_id": 1},
        {"id": 3, "isthing": False, "category_id": 0},
    ]
    match_classes(recorder, names).process([{}], [{"panoptic_seg": (ids, segments)}])
    ids, segments = recorder.outputs[0]["panoptic_seg"]
    assert ids.tolist() == [[0, 2], [3, 0]]  # the segment of class b is no segment any more
    assert [(s["id"], s["category_id"]) for s in segments] == [(2, 0), (3, 1)]


def test_each_of_several_evaluators_is_matched_and_others_are_left_alone():
    recorder, other = Recorder(thing_classes=["a"]), DatasetEvaluator()
    both = match_classes(DatasetEvaluators([recorder, other]), {"thing_classes": ["b", "a"]})
    assert isinstance(both._evaluators[0], MatchClasses) and both._evaluators[1] is other
    assert match_classes(recorder, {}) is recorder  # nothing is known of the model


def test_a_semantic_head_of_more_classes_than_the_data_is_evaluated_on_those_of_the_data():
    from d2lite.evaluation import SemSegEvaluator

    name = "shapes_sem_seg_val"
    classes = MetadataCatalog.get(name).stuff_classes
    evaluator = SemSegEvaluator(name, distributed=False)
    evaluator.reset()
    record = DatasetCatalog.get(name)[0]
    labels = torch.as_tensor(evaluator._ground_truth(record["file_name"]))
    scores = torch.nn.functional.one_hot(labels, 54).permute(2, 0, 1).float()
    scores[53] = 2.0  # an output that was never taught is higher than all others
    with pytest.raises(ValueError, match=r"the model has 54 classes, dataset .* has"):
        evaluator.process([record], [{"sem_seg": scores}])
    match_classes(evaluator, {"stuff_classes": classes}).process([record], [{"sem_seg": scores}])
    assert evaluator.evaluate()["sem_seg"]["pACC"] == pytest.approx(100)
