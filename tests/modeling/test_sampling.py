import pytest
import torch

from d2lite.modeling.sampling import subsample_labels
from tests.golden import load_case


@pytest.mark.parametrize("call", range(4))
def test_numbers_equal_detectron2(call):
    case = load_case("sampling.subsample_labels")
    labels = case.tensor("labels")
    bg_label = case.params["bg_label"]
    positive, negative = subsample_labels(labels, *case.params["calls"][call], bg_label)
    assert [len(positive), len(negative)] == case.outputs[f"call{call}"]
    assert (labels[negative] == bg_label).all()
    assert ((labels[positive] != bg_label) & (labels[positive] != -1)).all()


def test_draws_without_replacement_and_at_random():
    labels = torch.tensor([1] * 50 + [0] * 50)
    torch.manual_seed(0)
    first, second = (subsample_labels(labels, 20, 0.5, 0) for _ in range(2))
    assert len(set(first[0].tolist())) == len(set(first[1].tolist())) == 10
    assert first[0].tolist() != second[0].tolist()


def test_background_fills_what_foreground_leaves_free():
    positive, negative = subsample_labels(torch.tensor([5, -1, 3, 5, 5]), 4, 0.75, bg_label=5)
    assert positive.tolist() == [2] and sorted(negative.tolist()) == [0, 3, 4]


def test_no_labels_give_no_samples():
    positive, negative = subsample_labels(torch.empty(0, dtype=torch.int64), 4, 0.5, 0)
    assert positive.shape == negative.shape == (0,)
