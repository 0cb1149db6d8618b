import pytest
import torch

from d2lite.modeling.matcher import Matcher
from tests.golden import case_names, load_case


@pytest.mark.parametrize("name", case_names("matcher."))
def test_matching_equals_detectron2(name):
    case = load_case(name)
    p = case.params
    matches, labels = Matcher(p["thresholds"], p["labels"], p["low_quality"])(
        case.tensor("quality")
    )
    case.check("matched_idxs", matches)
    case.check("match_labels", labels)
    assert (matches.dtype, labels.dtype) == (torch.int64, torch.int8)


def test_an_interval_includes_its_lower_end():
    quality = torch.tensor([[0.29, 0.3, 0.69, 0.7]])
    _, labels = Matcher([0.3, 0.7], [0, -1, 1])(quality)
    assert labels.tolist() == [0, -1, -1, 1]


def test_low_quality_match_keeps_the_index_of_the_best_ground_truth():
    # The second ground truth is best covered by prediction 0, which prefers the first.
    quality = torch.tensor([[0.9, 0.1], [0.2, 0.0]])
    matches, labels = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)(quality)
    assert matches.tolist() == [0, 0] and labels.tolist() == [1, 0]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_without_ground_truth_or_predictions_labels_are_the_lowest(shape):
    matches, labels = Matcher([0.5], [0, 1], True)(torch.zeros(shape))
    assert matches.tolist() == labels.tolist() == [0] * shape[1]


@pytest.mark.parametrize(
    "thresholds, labels, message",
    [
        ([0.7, 0.3], [0, -1, 1], "ascend"),
        ([0.0], [0, 1], "positive"),
        ([0.5], [0, -1, 1], "1 IoU thresholds need 2"),
        ([0.5], [0, 2], "out of -1, 0 and 1"),
    ],
)
def test_rules_that_make_no_sense_are_refused(thresholds, labels, message):
    with pytest.raises(ValueError, match=message):
        Matcher(thresholds, labels)


def test_a_subclass_reads_the_interval_of_each_label():
    """How detectron2's matcher walks over them, and copies of it do."""
    matcher = Matcher([0.3, 0.7], [0, -1, 1])
    quality = torch.tensor([0.0, 0.29, 0.3, 0.69, 0.7, 1.0])
    labels = torch.full((6,), 9, dtype=torch.int8)
    intervals = zip(matcher.labels, matcher.thresholds[:-1], matcher.thresholds[1:], strict=True)
    for label, low, high in intervals:
        labels[(quality >= low) & (quality < high)] = label
    assert labels.tolist() == matcher(quality[None])[1].tolist() == [0, 0, -1, -1, 1, 1]
