"""Object numbers over the frames of a video, and missing objects, with all trackers."""

import numpy as np
import pytest

from d2lite.config import CfgNode, get_cfg
from d2lite.tracking import TRACKER_HEADS_REGISTRY, build_tracker_head
from d2lite.tracking.frame_tracker import FrameTracker
from tests.tracking.films import FAR, LEFT, RIGHT, TRACKERS, frame, shifted


@pytest.fixture(params=TRACKERS)
def make(request):
    kind = TRACKER_HEADS_REGISTRY.get(request.param)
    return lambda **settings: kind(video_height=100, video_width=100, **settings)


def test_the_first_frame_counts_from_zero(make):
    got = make().update(frame(LEFT, RIGHT))
    assert (got.ID, got.ID_period, got.lost_frame_count) == ([0, 1], [1, 1], [0, 0])


def test_moving_objects_keep_their_numbers_in_any_order(make):
    tracker = make()
    tracker.update(frame(LEFT, RIGHT))
    got = tracker.update(frame(shifted(RIGHT, 2), shifted(LEFT, 2)))
    assert (got.ID, got.ID_period) == ([1, 0], [2, 2])


def test_an_object_far_from_all_others_is_new_although_one_went_missing(make):
    tracker = make()
    tracker.update(frame(LEFT, RIGHT))
    got = tracker.update(frame(LEFT, FAR))
    assert got.ID == [0, 2] and got.ID_period == [2, 1]


def test_a_missing_object_is_kept_for_its_time_and_found_again(make):
    tracker = make(max_lost_frame_count=2)
    for _ in range(2):  # kept only when seen more than once
        tracker.update(frame(LEFT, RIGHT))
    got = tracker.update(frame(LEFT))
    assert (got.ID, got.lost_frame_count) == ([0, 1], [0, 1])
    assert got.pred_boxes.tensor[1].tolist() == RIGHT and got.pred_masks.shape == (2, 4, 4)
    assert tracker.update(frame(LEFT)).lost_frame_count == [0, 2]
    got = tracker.update(frame(shifted(RIGHT, 1)))
    assert got.ID[0] == 1 and got.lost_frame_count[0] == 0


def test_a_missing_object_is_given_up_after_its_time_and_numbers_are_not_reused(make):
    tracker = make(max_lost_frame_count=1)
    for _ in range(2):
        tracker.update(frame(LEFT, RIGHT))
    assert tracker.update(frame(LEFT)).ID == [0, 1]
    assert tracker.update(frame(LEFT)).ID == [0]
    assert tracker.update(frame(LEFT, RIGHT)).ID == [0, 2]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_lost_frame_count": 0},
        {"min_box_rel_dim": 0.3},  # RIGHT has 20 of 100 pixels
        {"min_instance_period": 2},  # it was seen twice
        {"max_num_instances": 1},
    ],
)
def test_missing_objects_that_break_a_rule_are_given_up(make, settings):
    tracker = make(**{"max_lost_frame_count": 5, **settings})
    for _ in range(2):
        tracker.update(frame(LEFT, RIGHT))
    assert tracker.update(frame(LEFT)).ID == [0]


def test_frames_without_objects(make):
    tracker = make()
    assert tracker.update(frame()).ID == []
    assert tracker.update(frame(LEFT)).ID == [0]
    assert tracker.update(frame()).ID == []
    assert tracker.update(frame(LEFT)).ID == [1]


def test_the_memory_does_not_change_with_what_was_returned(make):
    tracker = make()
    got = tracker.update(frame(LEFT))
    got.pred_boxes.scale(4.0, 4.0)
    got.ID[0] = 99
    assert tracker.update(frame(LEFT)).ID == [0]


def test_threshold_decides_what_overlaps_enough(make):
    # LEFT moved by 10 to the right: 200 of 600 square pixels are shared.
    for threshold, number in ((0.3, 0), (0.4, 1)):
        tracker = make(track_iou_threshold=threshold)
        tracker.update(frame(LEFT))
        got = tracker.update(frame([10, 0, 30, 20]))
        assert list(got.ID) == [number]


def test_a_config_without_the_size_of_the_video_is_refused():
    cfg = get_cfg()
    cfg.TRACKER_HEADS = CfgNode({"TRACKER_NAME": "BBoxIOUTracker", "VIDEO_WIDTH": 100})
    with pytest.raises(ValueError, match=r"TRACKER_HEADS.VIDEO_HEIGHT is missing"):
        build_tracker_head(cfg)


# --- the steps that subclasses override -----------------------------------------------------------


@pytest.fixture(params=TRACKERS)
def recording(request):
    """A tracker that writes down the calls of its steps."""
    calls = []

    class Recording(TRACKER_HEADS_REGISTRY.get(request.param)):
        def _initialize_extra_fields(self, instances):
            calls.append("initialize")
            return super()._initialize_extra_fields(instances)

        def _process_matched_idx(self, instances, matched_idx, matched_prev_idx):
            assert matched_idx.size == matched_prev_idx.size
            calls.append(("matched", matched_idx.tolist(), matched_prev_idx.tolist()))
            return super()._process_matched_idx(instances, matched_idx, matched_prev_idx)

        def _process_unmatched_idx(self, instances, matched_idx):
            calls.append(("unmatched", matched_idx.tolist()))
            return super()._process_unmatched_idx(instances, matched_idx)

        def _process_unmatched_prev_idx(self, instances, matched_prev_idx):
            calls.append(("unmatched before", matched_prev_idx.tolist()))
            return super()._process_unmatched_prev_idx(instances, matched_prev_idx)

    return Recording(video_height=100, video_width=100), calls


def test_steps_of_a_frame_in_order(recording):
    tracker, calls = recording
    tracker.update(frame(LEFT, RIGHT))
    assert calls == ["initialize"]
    tracker.update(frame(FAR, shifted(RIGHT, 1)))
    assert calls[1:] == [
        "initialize",
        ("matched", [1], [1]),
        ("unmatched", [1]),
        ("unmatched before", [1]),
    ]


def test_each_step_by_itself(make):
    tracker = make(max_lost_frame_count=1, min_instance_period=0)
    tracker.update(frame(LEFT, RIGHT))
    instances = tracker._initialize_extra_fields(frame(FAR, RIGHT))
    assert instances.ID == instances.ID_period == instances.lost_frame_count == [None, None]
    one = np.array([1])
    instances = tracker._process_matched_idx(instances, one, one)
    assert (instances.ID, instances.ID_period) == ([None, 1], [None, 2])
    instances = tracker._process_unmatched_idx(instances, one)
    assert (instances.ID, instances.ID_period) == ([2, 1], [1, 2])
    instances = tracker._process_unmatched_prev_idx(instances, one)
    assert instances.ID == [2, 1, 0] and instances.lost_frame_count == [0, 0, 1]
    assert instances.pred_boxes.tensor[2].tolist() == LEFT


def test_a_tracker_must_define_how_to_match():
    with pytest.raises(NotImplementedError, match=r"FrameTracker must define match\("):
        FrameTracker(100, 100).match(frame(LEFT), frame(LEFT))
