"""Anchors are fitted to known shapes, and printed as the detectors read them."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from d2lite.config import get_cfg
from d2lite.data import DatasetCatalog
from d2lite.structures import BoxMode

TOOL = Path(__file__).parents[2] / "tools" / "fit_anchors.py"
NAME = "fit_anchors_test"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("fit_anchors", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def boxes_of_two_shapes():
    """Images of 200 x 100, with boxes of 40 x 20 and of 10 x 30."""
    annotations = [
        {"bbox": [0, 0, *size], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
        for size in ((40, 20), (10, 30))
    ]
    records = [{"width": 200, "height": 100, "annotations": annotations}]
    DatasetCatalog.register(NAME, lambda: records)
    yield NAME
    DatasetCatalog.remove(NAME)


def test_settings_and_figures_are_printed_and_drawn(tool, boxes_of_two_shapes, tmp_path, capsys):
    plot = tmp_path / "anchors.png"
    tool.main(
        ["--dataset", NAME, "--plot", str(plot), "--num", "2", "--levels", "2", "--ratios", "2"]
        + ["--ssd-levels", "2", "INPUT.MIN_SIZE_TEST", "200", "MODEL.DEVICE", "cpu"]
    )
    printed = capsys.readouterr().out
    # Letterboxed, 200 x 100 becomes 416 x 208: boxes of 83.2 x 41.6 and 20.8 x 62.4.
    assert "anchors = 21,62,  83,42\n" in printed
    assert printed.count("100.0% of boxes reached at IoU 0.5") >= 3
    cfg = get_cfg()
    rpn = yaml.safe_load(re.search(r"MODEL:\n  ANCHOR_G(.+\n)+?.+RATIOS.+", printed)[0])
    cfg.merge_from_other_cfg(type(cfg)(rpn))
    sizes, ratios = rpn["MODEL"]["ANCHOR_GENERATOR"].values()
    # Twice as large for the RPN: 80 x 40 and 20 x 60, of areas 3200 and 1200.
    assert sizes == [[34.6], [56.6]] and ratios == [[0.5, 3.0]]
    ssd = yaml.safe_load(re.search(r"MODEL:\n  SSD(.+\n)+?.+RATIOS.+", printed)[0])["MODEL"]["SSD"]
    assert len(ssd["SCALES"]) == 3 and len(ssd["ASPECT_RATIOS"]) == 2
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_own_anchors_of_the_config_are_rated(tool, boxes_of_two_shapes, capsys):
    tool.main(
        ["--dataset", NAME, "--plot", "", "--formats", "rpn", "--levels", "1", "--ratios", "1"]
        + ["INPUT.MIN_SIZE_TEST", "0", "MODEL.ANCHOR_GENERATOR.SIZES", "[[20.0]]"]
        + ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1.0]]", "MODEL.DEVICE", "cpu"]
    )
    # 20 x 20 with 40 x 20 is 1/2, with 10 x 30 it is 200 / 500.
    assert "own anchors: mean IoU 0.450, 50.0% of boxes" in capsys.readouterr().out


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "no dataset given"),
        (["--dataset", "shapes_trian"], "'shapes_trian' is not registered. Did you mean"),
        (["--dataset", "shapes_val", "--formats", "rpn,sdd"], "'sdd' is not one of rpn, ssd, yolo"),
        (["--dataset", "shapes_val", "--num", "0"], "--num must be at least 1"),
    ],
)
def test_mistakes_are_one_clear_line(tool, capsys, args, message):
    with pytest.raises(SystemExit):
        tool.main(["--plot", "", *args])
    assert message in capsys.readouterr().err
