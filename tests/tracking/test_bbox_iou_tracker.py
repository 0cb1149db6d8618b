"""The greedy tracker: the best pair first."""

from d2lite.tracking import TRACKER_HEADS_REGISTRY
from tests.tracking.films import LEFT, RIGHT, frame, numbers_where_matches_compete, shifted


def test_the_best_pair_leaves_nothing_for_the_other_detection():
    assert numbers_where_matches_compete("BBoxIOUTracker") == [0, 2]


def test_steps_of_the_greedy_tracker():
    class Own(TRACKER_HEADS_REGISTRY.get("BBoxIOUTracker")):
        def _create_prediction_pairs(self, instances, iou_all):
            pairs = super()._create_prediction_pairs(instances, iou_all)
            assert [pair["IoU"] for pair in pairs] == sorted(
                (pair["IoU"] for pair in pairs), reverse=True
            )
            return pairs[:1]  # the best pair only

        def _assign_new_id(self, instances):
            assert self._matched_idx == {0}
            return super()._assign_new_id(instances)

        def _merge_untracked_instances(self, instances):
            assert self._untracked_prev_idx == {1}
            return super()._merge_untracked_instances(instances)

    tracker = Own(video_height=100, video_width=100)
    tracker.update(frame(LEFT, RIGHT))
    got = tracker.update(frame(LEFT, shifted(RIGHT, 1)))
    assert got.ID == [0, 2]
