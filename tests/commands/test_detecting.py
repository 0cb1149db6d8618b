"""The minimum scores of classes, by name."""

import pytest

from d2lite.commands.detecting import thresholds_of
from d2lite.data import Metadata, MetadataCatalog


def test_thresholds_by_name():
    metadata = MetadataCatalog.get("shapes_val")
    values = thresholds_of(metadata, 0.5, ["star=0.7"])
    assert values.tolist() == pytest.approx([0.5, 0.5, 0.5, 0.7, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"no class 'stars'\. Did you mean 'star'"):
        thresholds_of(metadata, 0.5, ["stars=0.7"])


def test_model_without_class_names_has_one_threshold():
    assert thresholds_of(Metadata(name="none"), 0.25, []).tolist() == [0.25]
