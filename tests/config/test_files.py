"""Configs are found by name, and a path comes before the zoo."""

import pytest

from d2lite.config import files
from d2lite.config.errors import ConfigFileError


@pytest.mark.parametrize(
    "name, ending",
    [
        ("quick_start", "configs/quick_start.yaml"),
        ("COCO-Detection/faster_rcnn_R_50_FPN_1x", "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"),
        ("COCO-Detection/fcos_R_50_FPN_1x", "COCO-Detection/fcos_R_50_FPN_1x.py"),
        ("faster_rcnn_R_50_FPN_3x", "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"),
        ("COCO-Detection/retinanet_R_50_FPN_1x.py", "COCO-Detection/retinanet_R_50_FPN_1x.py"),
    ],
)
def test_configs_are_found_by_name(name, ending, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.find_config(name).replace("\\", "/").endswith(ending)


@pytest.mark.parametrize(
    "name, near",
    [
        ("quick_strat", "'quick_start'"),
        ("COCO-Detection/faster_rcnn_R_50_FPN_1", "'COCO-Detection/faster_rcnn_R_50_FPN_1x'"),
        ("mask_rcnn_R_50_FPN_1x", ""),  # of several folders, so the folder has to be given
    ],
)
def test_unknown_config_gets_the_nearest(name, near, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigFileError, match=f"There is no config {name}.*{near}"):
        files.find_config(name)


def test_path_of_a_config_comes_before_the_zoo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick_start").write_text("SEED: 1\n")
    assert files.find_config("quick_start") == "quick_start"
    assert files.find_config("") == ""
