"""The interface of trackers, and how a config names one."""

import pytest

from d2lite.config import CfgNode, get_cfg
from d2lite.tracking import BaseTracker, build_tracker_head
from tests.tracking.films import LEFT, TRACKERS, frame


@pytest.mark.parametrize("name", TRACKERS)
def test_built_from_a_config(name):
    cfg = get_cfg()
    cfg.TRACKER_HEADS = CfgNode(
        {
            "TRACKER_NAME": name,
            "VIDEO_HEIGHT": 100,
            "VIDEO_WIDTH": 100,
            "TRACK_IOU_THRESHOLD": 0.3,
        }
    )
    tracker = build_tracker_head(cfg)
    tracker.update(frame(LEFT))
    assert tracker.update(frame([10, 0, 30, 20])).ID == [0]


def test_the_interface_names_what_is_missing():
    with pytest.raises(NotImplementedError, match="BaseTracker must define update"):
        BaseTracker().update(frame())
    with pytest.raises(NotImplementedError, match="must define from_config"):
        BaseTracker.from_config(get_cfg())
