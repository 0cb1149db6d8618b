"""CSV files with a row for each box, through their URI."""

import logging

import numpy as np
import pytest
from PIL import Image

from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.projects.mobilenet import resolve_csv
from d2lite.structures import BoxMode

HEADER = "image_id,width,height,bbox,source\n"
WHEAT = (
    HEADER
    + 'b6,64,48,"[8.0, 2.5, 16.0, 12.0]",usask\n'
    + 'a1,32,32,"[0, 0, 10, 5]",ethz\n'
    + 'b6,64,48,"[1, 2, 3, 4]",usask\n'
    + "empty,32,32,,ethz\n"
)


@pytest.fixture
def write(tmp_path):
    images = tmp_path / "train"
    images.mkdir()
    for name in ("b6", "a1", "empty"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(images / f"{name}.jpg")

    def write_file(text: str, options: str = "") -> str:
        path = tmp_path / "train.csv"
        path.write_text(text)
        return f"csv:{path}?images={images}{options}"

    return write_file


def test_wheat_file_by_hand(write, tmp_path):
    uri = write(WHEAT, "&classes=wheat")
    records = DatasetCatalog.get(uri)
    assert MetadataCatalog.get(uri).thing_classes == ["wheat"]
    assert [r["image_id"] for r in records] == ["b6", "a1", "empty"]
    first = records[0]
    assert first["file_name"] == str(tmp_path / "train" / "b6.jpg")
    assert (first["height"], first["width"]) == (48, 64)
    assert [a["bbox"] for a in first["annotations"]] == [[8.0, 2.5, 16.0, 12.0], [1, 2, 3, 4]]
    assert {a["bbox_mode"] for a in first["annotations"]} == {BoxMode.XYWH_ABS}
    assert {a["category_id"] for a in first["annotations"]} == {0}
    assert records[2]["annotations"] == []


def test_one_class_has_a_name_of_its_own(write):
    assert resolve_csv(write(WHEAT)).metadata["thing_classes"] == ["object"]


def test_column_of_classes(write):
    text = 'image_id,width,height,bbox,class\na1,9,9,"[1,1,2,2]",dog\na1,9,9,"[1,1,2,2]",cat\n'
    resolved = resolve_csv(write(text))
    assert resolved.metadata["thing_classes"] == ["cat", "dog"]
    assert [a["category_id"] for a in resolved.load()[0]["annotations"]] == [1, 0]
    only_dogs = resolve_csv(write(text, "&classes=dog"))
    assert [a["category_id"] for a in only_dogs.load()[0]["annotations"]] == [0]
    with pytest.raises(ValueError, match=r"no box of class 'dot'\. Did you mean 'dog'"):
        resolve_csv(write(text, "&classes=dot"))


def test_extension(write, tmp_path):
    (tmp_path / "train" / "c.png").write_bytes(b"")
    text = HEADER + 'c,9,9,"[1,1,2,2]",x\nc.png,9,9,"[1,1,2,2]",x\n'
    records = resolve_csv(write(text, "&extension=.png")).load()
    assert [r["file_name"] for r in records] == [str(tmp_path / "train" / "c.png")] * 2
    with pytest.raises(FileNotFoundError, match=r"c\.jpg.*extension=\.jpg"):
        resolve_csv(write(text)).load()


def test_boxes_without_area_are_dropped_and_told(write, caplog):
    text = HEADER + 'a1,9,9,"[1,1,0,2]",x\na1,9,9,"[1,1,2,2]",x\n'
    with caplog.at_level(logging.WARNING):
        records = resolve_csv(write(text)).load()
    assert len(records[0]["annotations"]) == 1
    assert "dropped 1 boxes without area, the first in" in caplog.text
    assert "line 2" in caplog.text


@pytest.mark.parametrize(
    "rows, message",
    [
        ("a1,9,9,1,2,3,4\n", "line 2: .*must be quoted"),
        ("a1,9\n", "line 2: there must be one value for each column"),
        (',9,9,"[1,1,2,2]",x\n', "line 2: image_id is empty"),
        ('a1,9,wide,"[1,1,2,2]",x\n', "width and height are '9' and 'wide'"),
        ('a1,9,-9,"[1,1,2,2]",x\n', "positive whole numbers"),
        ('a1,9,9,"[1,1,2]",x\n', r"bbox is '\[1,1,2\]'; expected '\[x, y, width, height\]'"),
        ('a1,9,9,"1 1 2 2",x\n', "bbox is '1 1 2 2'"),
        ('a1,9,9,"5",x\n', "bbox is '5'"),
        ('a1,9,9,"[1,1,2,2]",x\na1,9,8,"[1,1,2,2]",x\n', "line 3: image 'a1' is 9 x 8 here"),
    ],
)
def test_malformed_rows_are_told_by_line(write, rows, message):
    uri = write(HEADER + rows)
    with pytest.raises(ValueError, match=message):
        resolve_csv(uri).load()


def test_missing_parts_are_told(write, tmp_path):
    with pytest.raises(ValueError, match="no file after 'csv:'"):
        resolve_csv("csv:?images=train")
    with pytest.raises(FileNotFoundError, match="file not found"):
        resolve_csv(f"csv:{tmp_path}/none.csv")
    with pytest.raises(ValueError, match="unknown option 'imgs'"):
        resolve_csv(write(WHEAT, "&imgs=x"))
    with pytest.raises(ValueError, match="'width' is not among 'image_id', 'x'"):
        resolve_csv(write("image_id,x\n"))
    with pytest.raises(FileNotFoundError, match=r"image folder .* not found"):
        resolve_csv(f"csv:{tmp_path}/train.csv?images={tmp_path}/none")
    with pytest.raises(ValueError, match="'classes' has 2 names"):
        resolve_csv(write(WHEAT, "&classes=a,b"))
