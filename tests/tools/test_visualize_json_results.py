"""The tool draws results of every kind, and names what is wrong with a file."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2lite.data import DatasetCatalog
from d2lite.data.datasets.coco import convert_to_coco_dict

TOOL = Path(__file__).parents[2] / "tools" / "visualize_json_results.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("visualize_json_results", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results_of(name: str, score: float = 0.9) -> list[dict]:
    """The ground truth as results."""
    rows = convert_to_coco_dict(name)["annotations"]
    keys = ("image_id", "category_id", "bbox", "keypoints")
    return [{**{k: r[k] for k in keys if k in r}, "score": score} for r in rows]


def run(tool, tmp_path, rows, name, *options) -> list[np.ndarray]:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    out = tmp_path / "drawn"
    tool.main(["--input", str(path), "--dataset", name, "--output", str(out), *options])
    return [np.asarray(Image.open(f)).astype(int) for f in sorted(out.iterdir())]


@pytest.mark.parametrize("name", ["shapes_val", "shapes_rotated_val"])
def test_results_are_drawn_beside_the_truth(tool, tmp_path, capsys, name):
    pictures = run(tool, tmp_path, results_of(name), name, "--num", "2")
    assert "Drew 2 images into" in capsys.readouterr().out
    width = DatasetCatalog.get(name)[0]["width"]
    assert pictures[0].shape[1] == 2 * width + 6
    # The same shapes are drawn on both sides; the labels differ by the score.
    lower = pictures[0][-20:]
    assert np.abs(lower[:, :width] - lower[:, -width:]).mean() < 12


def test_weak_results_are_left_out(tool, tmp_path):
    weak = results_of("shapes_val", 0.3)
    all_drawn = run(tool, tmp_path, weak, "shapes_val", "--num", "1", "--conf-threshold", "0.2")
    none_drawn = run(tool, tmp_path, weak, "shapes_val", "--num", "1")
    assert np.abs(all_drawn[0] - none_drawn[0]).max() > 60


@pytest.mark.parametrize(
    "content, message",
    [
        ("[{", "results.json: not valid JSON"),
        ('[{"image_id": 1}]', "entry 0 has no 'category_id'"),
        (json.dumps([{**results_of("shapes_val")[0], "category_id": 99}]), "category_id 99"),
    ],
)
def test_mistakes_are_one_clear_line(tool, tmp_path, capsys, content, message):
    path = tmp_path / "results.json"
    path.write_text(content)
    options = ["--dataset", "shapes_val", "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        tool.main(["--input", str(path), *options])
    assert message in capsys.readouterr().err
