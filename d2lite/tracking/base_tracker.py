"""The interface of trackers, and how a config names one."""

from typing import Any

from d2lite.config import configurable
from d2lite.structures import Instances
from d2lite.utils.registry import Registry

TRACKER_HEADS_REGISTRY = Registry("TRACKER_HEADS", config_key="TRACKER_HEADS.TRACKER_NAME")
TRACKER_HEADS_REGISTRY.__doc__ = "Subclasses of BaseTracker, called with (cfg)."


class BaseTracker:
    """Gives objects of a video their numbers, frame by frame.

    A tracker remembers the last frame: use one per video, and feed it every frame in order.
    """

    @configurable
    def __init__(self, **kwargs: Any):
        """kwargs: settings that subclasses do not know; ignored, so that configs can be shared."""
        self._prev_instances: Instances | None = None
        self._id_count = 0  # the next number to be given

    @classmethod
    def from_config(cls, cfg) -> dict:
        raise NotImplementedError(f"{cls.__name__} must define from_config(cls, cfg)")

    def update(self, predictions: Instances) -> Instances:
        """Give ids to the detections of the next frame.

        Args:
            predictions: the detections, as a detector returns them.

        Returns:
            Instances with the fields of `predictions` and three lists: `ID`, the number of the
            object; `ID_period`, in how many frames it has been seen; `lost_frame_count`, for
            how many frames it has been missing. Objects that are missing but not given up yet
            follow behind those of this frame, as they were last seen.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(predictions)")


def build_tracker_head(cfg) -> BaseTracker:
    """Return the tracker that TRACKER_HEADS.TRACKER_NAME names.

    Raises:
        KeyError: no tracker of that name is registered.
    """
    return TRACKER_HEADS_REGISTRY.get(cfg.TRACKER_HEADS.TRACKER_NAME)(cfg)
