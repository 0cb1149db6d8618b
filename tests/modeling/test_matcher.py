import pytest
import torch

from d2lite.modeling import matcher
from d2lite.modeling.matcher import Matcher, match_boxes
from d2lite.structures import Boxes, pairwise_iou
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
        ([0.5], [0, 2], "each -1, 0 or 1"),
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


@pytest.mark.parametrize("allow_low_quality_matches", [False, True])
@pytest.mark.parametrize("num_gt", [0, 1, 7])
def test_matching_in_parts_is_matching_at_once(monkeypatch, allow_low_quality_matches, num_gt):
    corners = torch.randint(0, 30, (200 + num_gt, 2)).float()
    boxes = torch.cat([corners, corners + torch.randint(0, 12, (200 + num_gt, 2))], dim=1)
    gt_boxes, anchors = Boxes(boxes[:num_gt]), Boxes(boxes[num_gt:])  # with ties and empty boxes
    rule = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches)
    expected = rule(pairwise_iou(gt_boxes, anchors))
    for largest in (1, 50, 301, 2**25):
        monkeypatch.setattr(matcher, "LARGEST_MATRIX", largest)
        for got, wanted in zip(match_boxes(rule, gt_boxes, anchors), expected, strict=True):
            assert got.dtype == wanted.dtype and torch.equal(got, wanted)


def test_a_matcher_of_ones_own_gets_the_whole_matrix(monkeypatch):
    class Own(Matcher):
        def __call__(self, match_quality_matrix):
            assert match_quality_matrix.shape == (3, 5)
            return super().__call__(match_quality_matrix)

    monkeypatch.setattr(matcher, "LARGEST_MATRIX", 1)
    boxes = Boxes(torch.rand(5, 4))
    match_boxes(Own([0.5], [0, 1]), boxes[:3], boxes)
