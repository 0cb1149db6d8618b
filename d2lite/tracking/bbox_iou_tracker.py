"""A greedy tracker: the boxes of two frames that overlap most belong together."""

from typing import Any

from d2lite.config import configurable
from d2lite.structures import Instances, pairwise_iou
from d2lite.tracking.base_tracker import TRACKER_HEADS_REGISTRY
from d2lite.tracking.frame_tracker import FrameTracker, Matches, tracker_settings
from d2lite.tracking.utils import create_prediction_pairs


@TRACKER_HEADS_REGISTRY.register()
class BBoxIOUTracker(FrameTracker):
    """Matches boxes in order of falling IoU, each at most once."""

    @configurable
    def __init__(
        self,
        *,
        video_height: int,
        video_width: int,
        max_num_instances: int = 200,
        max_lost_frame_count: int = 0,
        min_box_rel_dim: float = 0.02,
        min_instance_period: int = 1,
        track_iou_threshold: float = 0.5,
        **kwargs: Any,
    ):
        """track_iou_threshold: boxes below this IoU are never matched. Others: `FrameTracker`."""
        super().__init__(
            video_height=video_height,
            video_width=video_width,
            max_num_instances=max_num_instances,
            max_lost_frame_count=max_lost_frame_count,
            min_box_rel_dim=min_box_rel_dim,
            min_instance_period=min_instance_period,
            **kwargs,
        )
        self._track_iou_threshold = track_iou_threshold

    @classmethod
    def from_config(cls, cfg) -> dict:
        return tracker_settings(cfg, track_iou_threshold=0.5)

    def match(self, instances: Instances, previous: Instances) -> Matches:
        """Greedily the pairs of highest IoU; of equal ones the lowest indices first."""
        iou = pairwise_iou(instances.pred_boxes, previous.pred_boxes)
        pairs = create_prediction_pairs(instances, previous, iou, self._track_iou_threshold)
        matched: dict[int, int] = {}
        taken: set[int] = set()
        for pair in sorted(pairs, key=lambda pair: -pair["IoU"]):
            if pair["idx"] not in matched and pair["prev_idx"] not in taken:
                matched[pair["idx"]] = pair["prev_idx"]
                taken.add(pair["prev_idx"])
        return list(matched), list(matched.values())
