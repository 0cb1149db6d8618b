"""A greedy tracker: the boxes of two frames that overlap most belong together."""

from d2lite.structures import Instances, pairwise_iou
from d2lite.tracking.base_tracker import TRACKER_HEADS_REGISTRY
from d2lite.tracking.frame_tracker import FrameTracker, Matches
from d2lite.tracking.utils import create_prediction_pairs


@TRACKER_HEADS_REGISTRY.register()
class BBoxIOUTracker(FrameTracker):
    """Matches boxes in order of falling IoU, each at most once."""

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
