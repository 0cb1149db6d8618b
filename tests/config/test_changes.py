"""Settings in which configs differ."""

from d2lite.config import CfgNode
from d2lite.config.changes import changed_settings


def test_only_other_and_additional_settings_are_returned():
    defaults = CfgNode({"A": 1, "B": {"C": 2, "D": [3]}, "E": {"F": 4}})
    cfg = CfgNode({"A": 1, "B": {"C": 5, "D": [3]}, "E": {"F": 4}, "G": {"H": 6}})
    assert changed_settings(cfg, defaults) == {"B": {"C": 5}, "G": {"H": 6}}
    assert changed_settings(defaults, defaults) == {}
