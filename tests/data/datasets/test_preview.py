"""`python -m d2lite.data.datasets.FORMAT` draws a dataset."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets import cityscapes, coco, lvis

BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}
BOX["segmentation"] = [[10, 10, 30, 10, 30, 30, 10, 30]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "val2017").mkdir()
    Image.new("RGB", (60, 40), (90, 90, 90)).save(tmp_path / "val2017" / "1.jpg")
    contents = {
        "images": [
            {
                "id": 1,
                "file_name": "val2017/1.jpg",
                "coco_url": "http://images.cocodataset.org/val2017/1.jpg",
                "height": 40,
                "width": 60,
            }
        ],
        "annotations": [BOX],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "data.json").write_text(json.dumps(contents))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for registry in (DatasetCatalog, MetadataCatalog):
        for name in [n for n in registry.list() if n.startswith("my")]:
            registry.remove(name)


@pytest.mark.parametrize("module, name", [(coco, "my_data"), (lvis, "my_v1_data")])
def test_a_json_file_is_drawn(folder, monkeypatch, capsys, module, name):
    monkeypatch.setattr(sys, "argv", ["main", "data.json", str(folder), name, "--output-dir", "o"])
    module.main()
    drawn = np.asarray(Image.open(folder / "o" / "00000_1.jpg")).astype(int)
    assert drawn.shape == (40, 60, 3)
    assert np.abs(drawn[12:28, 12:28] - 90).max() > 20
    assert "Read 1 images; drew 1 of them into o" in capsys.readouterr().out


def test_cityscapes_are_drawn(folder, monkeypatch):
    images, labels = folder / "img" / "ulm", folder / "gt" / "ulm"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    Image.new("RGB", (60, 40), (90, 90, 90)).save(images / "ulm_0_0_leftImg8bit.png")
    (labels / "ulm_0_0_gtFine_polygons.json").write_text('{"imgHeight": 40, "imgWidth": 60}')
    ids = np.full((40, 60), 255, np.uint8)
    ids[:20] = 10  # sky
    Image.fromarray(ids).save(labels / "ulm_0_0_gtFine_labelTrainIds.png")
    monkeypatch.setattr(sys, "argv", ["main", "img", "gt", "semantic", "--output-dir", "o"])
    cityscapes.main()
    drawn = np.asarray(Image.open(folder / "o" / "00000_ulm_0_0_leftImg8bit.jpg")).astype(int)
    assert np.abs(drawn[:16] - 90).max() > 20
    assert np.abs(drawn[28:] - 90).max() <= 20
