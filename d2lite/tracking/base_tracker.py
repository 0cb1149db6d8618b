"""The interface of trackers, and their registry."""

from typing import Any

from d2lite.config import configurable
from d2lite.structures import Instances
from d2lite.utils.registry import Registry

TRACKER_HEADS_REGISTRY = Registry("TRACKER_HEADS", config_key="TRACKER_HEADS.TRACKER_NAME")
TRACKER_HEADS_REGISTRY.__doc__ = "Subclasses of BaseTracker, called with (cfg)."


class BaseTracker:
    """Base class of trackers, which assign ids to the objects of a video, frame by frame.

    A tracker remembers the last frame: use one per video, and pass it every frame in order.
    """

    @configurable
    def __init__(self, **kwargs: Any):
        """kwargs: settings unknown to subclasses; ignored, so that configs can be shared."""
        self._prev_instances: Instances | None = None
        self._id_count = 0  # the next id

    @classmethod
    def from_config(cls, cfg) -> dict:
        raise NotImplementedError(f"{cls.__name__} must define from_config(cls, cfg)")

    def update(self, predictions: Instances) -> Instances:
        """Assign ids to the detections of the next frame.

        Args:
            predictions: the detections, as a detector returns them.

        Returns:
            Instances with the fields of `predictions` and three lists: `ID`, the id of the object;
            `ID_period`, the number of frames in which it was seen; `lost_frame_count`, the number
            of frames for which it has been missing. Missing objects that are still tracked come
            after those of this frame, as they were last seen.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(predictions)")


def build_tracker_head(cfg) -> BaseTracker:
    """Build the tracker named by TRACKER_HEADS.TRACKER_NAME.

    Raises:
        KeyError: no tracker of that name is registered.
    """
    return TRACKER_HEADS_REGISTRY.get(cfg.TRACKER_HEADS.TRACKER_NAME)(cfg)
