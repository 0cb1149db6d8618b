"""Labels of proposals, and the choice of those that the branches get."""

import torch

from d2lite.modeling.matcher import Matcher
from d2lite.modeling.roi_heads import (
    ROIHeads,
    select_foreground_proposals,
)
from d2lite.modeling.roi_heads.roi_heads import select_proposals_with_visible_keypoints
from d2lite.structures import Instances, Keypoints
from d2lite.utils.events import EventStorage
from tests.modeling.roi_heads.tiny import SIZE, K, boxes, given_proposals, no_objects, target


def sampler(**changes) -> ROIHeads:
    settings = {
        "num_classes": K,
        "batch_size_per_image": 4,
        "positive_fraction": 0.5,
        "proposal_matcher": Matcher([0.5], [0, 1]),
    }
    return ROIHeads(**{**settings, **changes})


def test_sampled_proposals_get_the_fields_of_their_object():
    proposals = given_proposals((0, 0, 15, 16), (16, 16, 30, 30), (2, 20, 9, 30))
    (x,) = sampler().label_and_sample_proposals([proposals], [target()])
    foreground = x[x.gt_classes != K]
    assert len(x) == 4
    assert foreground.gt_classes.tolist() == [2, 2]  # the near proposal and the object itself
    assert foreground.gt_boxes.tensor.tolist() == [[0, 0, 16, 16]] * 2
    assert {"gt_masks", "gt_keypoints", "objectness_logits"} <= set(x.get_fields())


def test_rows_are_the_drawn_foreground_then_the_drawn_background():
    """Redrawn by hand: a permutation of the foreground's rows, then one of the background's."""
    rows = [(0, 0, 15, 16), (16, 16, 30, 30), (0, 0, 16, 15), (2, 20, 9, 30), (9, 20, 15, 30)]
    proposals = given_proposals(*rows)
    proposals.objectness_logits = torch.arange(5.0)
    torch.manual_seed(3)
    (x,) = sampler(batch_size_per_image=4).label_and_sample_proposals([proposals], [target()])

    torch.manual_seed(3)
    foreground = torch.tensor([0, 2, 5])[torch.randperm(3)[:2]]  # 5: the object, appended
    background = torch.tensor([1, 3, 4])[torch.randperm(3)[:2]]
    expected = boxes(*rows, (0, 0, 16, 16))[torch.cat([foreground, background])]
    assert torch.equal(x.proposal_boxes.tensor, expected.tensor)
    assert x.gt_classes.tolist() == [2, 2, K, K]
    assert torch.equal(proposals.objectness_logits, torch.arange(5.0))  # left alone
    assert set(proposals.get_fields()) == {"proposal_boxes", "objectness_logits"}


def test_ground_truth_is_appended_on_request_only():
    far = given_proposals((16, 16, 30, 30))
    (x,) = sampler(proposal_append_gt=False).label_and_sample_proposals([far], [target()])
    assert x.gt_classes.tolist() == [K]


def test_proposals_of_an_image_without_objects_are_background():
    (x,) = sampler().label_and_sample_proposals([given_proposals((0, 0, 9, 9))], [no_objects()])
    assert x.gt_classes.tolist() == [K]
    assert not x.has("gt_boxes")


def test_no_proposals_at_all():
    (x,) = sampler().label_and_sample_proposals([given_proposals()], [no_objects()])
    assert len(x) == 0


def test_ignored_proposals_are_not_sampled():
    matcher = Matcher([0.3, 0.9], [0, -1, 1])
    heads = sampler(proposal_matcher=matcher, proposal_append_gt=False)
    between = given_proposals((0, 0, 8, 16), (0, 0, 16, 16))  # IoU 0.5 and 1
    (x,) = heads.label_and_sample_proposals([between], [target()])
    assert x.gt_classes.tolist() == [2]


def test_numbers_of_samples_are_logged():
    with EventStorage() as storage:
        sampler().label_and_sample_proposals(
            [given_proposals((16, 16, 30, 30)), given_proposals((0, 0, 9, 9))],
            [target(), no_objects()],
        )
    # one foreground (the object itself) and two of background, in two images
    assert {k: v for k, (v, _) in storage.latest().items()} == {
        "roi_head/num_fg_samples": 0.5,
        "roi_head/num_bg_samples": 1.0,
    }


def test_foreground_is_neither_background_nor_ignored():
    x = Instances(SIZE, gt_classes=torch.tensor([0, K, -1, 2]))
    (chosen,), (mask,) = select_foreground_proposals([x], K)
    assert chosen.gt_classes.tolist() == [0, 2]
    assert mask.tolist() == [True, False, False, True]


def test_proposals_need_a_visible_keypoint_inside():
    keypoints = torch.tensor(
        [
            [[5.0, 5.0, 2.0], [50.0, 5.0, 2.0]],  # one inside
            [[5.0, 5.0, 0.0], [50.0, 5.0, 2.0]],  # inside but not labeled
            [[50.0, 5.0, 2.0], [5.0, 50.0, 2.0]],  # outside along one axis each
            [[10.0, 10.0, 1.0], [50.0, 5.0, 2.0]],  # on the corner, labeled but hidden
        ]
    )
    x = Instances(
        SIZE,
        gt_keypoints=Keypoints(keypoints),
        proposal_boxes=boxes(*[(0, 0, 10, 10)] * 4),
        row=torch.arange(4),
    )
    with EventStorage() as storage:
        chosen, none = select_proposals_with_visible_keypoints([x, x[torch.zeros(0).long()]])
    assert chosen.row.tolist() == [0, 3]
    assert len(none) == 0
    # Of the images that have foreground at all.
    assert storage.latest()["keypoint_head/num_fg_samples"][0] == 2
