import copy
import pickle

import pytest
import torch

from d2lite.structures import Boxes, Instances, Keypoints
from tests.golden import load_case


def _five() -> tuple[Instances, object]:
    case = load_case("structures.instances")
    instances = Instances((10, 20))
    instances.pred_boxes = Boxes(case.tensor("boxes"))
    instances.scores = case.tensor("scores")
    return instances, case


def test_operations_equal_detectron2():
    instances, case = _five()
    assert len(instances) == case.outputs["len"]
    assert sorted(instances.get_fields()) == case.outputs["fields"]
    assert list(instances.image_size) == case.outputs["image_size"]
    assert len(instances[1]) == case.outputs["int_index_len"]
    joined = Instances.cat([instances, instances])
    assert len(joined) == case.outputs["cat_len"]
    case.check("cat.boxes", joined.pred_boxes.tensor)


def test_a_mask_selects_in_every_field():
    instances, case = _five()
    mask = torch.isin(instances.scores, torch.from_numpy(case.outputs["masked.scores"]))
    selected = instances[mask]
    case.check("masked.scores", selected.scores)
    case.check("masked.boxes", selected.pred_boxes.tensor)


@pytest.mark.parametrize("index", [-5, -1, 0, 4])
def test_an_index_selects_one_row(index):
    instances, _ = _five()
    assert instances[index].scores.tolist() == [instances.scores[index].item()]


@pytest.mark.parametrize("index", [5, -6])
def test_an_index_out_of_range_is_an_index_error(index):
    with pytest.raises(IndexError, match=f"{index} is out of range for 5"):
        _five()[0][index]


def test_fields_of_other_length_are_refused():
    with pytest.raises(AssertionError, match="'classes' has 2 rows, these Instances have 5"):
        _five()[0].classes = [1, 2]


def test_a_missing_field_names_those_present():
    with pytest.raises(AttributeError, match="'pred_masks'; fields present: pred_boxes, scores"):
        _ = _five()[0].pred_masks


def test_length_without_fields_is_not_known():
    with pytest.raises(NotImplementedError, match="set a field"):
        len(Instances((1, 1)))
    with pytest.raises(NotImplementedError, match="range"):
        iter(_five()[0])


@pytest.mark.parametrize("item", [torch.tensor([False, True, True]), torch.tensor([1, 2])])
def test_lists_are_indexed_like_tensors(item):
    assert Instances((1, 1), names=["a", "b", "c"])[item].names == ["b", "c"]


def test_cat_joins_lists_and_objects_with_cat():
    one = Instances((1, 1), names=["a"], keypoints=Keypoints(torch.zeros(1, 2, 3)))
    joined = Instances.cat([one, one])
    assert joined.names == ["a", "a"] and len(joined.keypoints) == 2


def test_cat_refuses_what_does_not_fit():
    one = Instances((1, 1), names=("a",))
    with pytest.raises(ValueError, match="'names' of type tuple"):
        Instances.cat([one, one])
    with pytest.raises(AssertionError, match=r"different image sizes: \[\(1, 1\), \(2, 2\)\]"):
        Instances.cat([one, Instances((2, 2), names=("a",))])
    with pytest.raises(AssertionError, match="at least one"):
        Instances.cat([])


def test_copies_and_pickles_keep_all_fields():
    instances, _ = _five()
    for again in (copy.deepcopy(instances), pickle.loads(pickle.dumps(instances))):
        assert again.image_size == (10, 20)
        assert torch.equal(again.pred_boxes.tensor, instances.pred_boxes.tensor)


def test_to_moves_what_can_move():
    instances = Instances((1, 1), scores=torch.zeros(2), names=["a", "b"])
    moved = instances.to(torch.float64)
    assert moved.scores.dtype == torch.float64 and moved.names == ["a", "b"]


def test_set_has_get_remove():
    instances, _ = _five()
    instances.set("kind", list("abcde"))
    assert instances.has("kind") and instances.get("kind") == list("abcde")
    instances.remove("kind")
    assert not instances.has("kind")
    assert "num_instances=5, image_height=10, image_width=20" in str(instances)
