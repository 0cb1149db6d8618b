"""Reading VOC folders, good and bad."""

import os
from pathlib import Path

import pytest

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.pascal_voc import (
    CLASS_NAMES,
    load_voc_instances,
    read_voc_class_names,
    read_voc_split,
    register_pascal_voc,
)
from d2lite.structures import BoxMode

SIZE = "<size><width>60</width><height>40</height><depth>3</depth></size>"


def box(name="cat", xmin=1, ymin=2, xmax=30, ymax=40):
    return (
        f"<object><name>{name}</name><difficult>1</difficult><bndbox><xmin>{xmin}</xmin>"
        f"<ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
    )


def make_voc(root: Path, splits: dict[str, dict[str, str]]) -> str:
    """A VOC folder; `splits` has for each split the inside of each image's <annotation>."""
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for split, images in splits.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(images) + "\n")
        for name, inside in images.items():
            (root / f"Annotations/{name}.xml").write_text(f"<annotation>{inside}</annotation>")
            (root / f"JPEGImages/{name}.jpg").touch()
    return str(root)


@pytest.fixture
def voc(tmp_path):
    return make_voc(
        tmp_path / "voc",
        {
            "train": {"b": SIZE + box() + box("dog", 5, 5, 9, 9), "a": SIZE},
            "val": {"c": SIZE + box("cow")},
        },
    )


def test_boxes_lose_one_at_the_left_and_top_only(voc):
    first, second = load_voc_instances(voc, "train", ["cat", "dog"])
    assert first["file_name"] == os.path.join(voc, "JPEGImages", "b.jpg")
    assert first["image_id"] == "b"  # order of the list
    assert (first["height"], first["width"]) == (40, 60)
    assert first["annotations"] == [
        {"category_id": 0, "bbox": [0, 1, 30, 40], "bbox_mode": BoxMode.XYXY_ABS, "difficult": 1},
        {"category_id": 1, "bbox": [4, 4, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "difficult": 1},
    ]
    assert second["annotations"] == []


def test_boxes_without_area_are_dropped_and_reported_once(tmp_path, caplog):
    inside = SIZE + box() + box(xmin=7, xmax=7) + box(ymin=9, ymax=8)
    dirname = make_voc(tmp_path / "voc", {"train": {"a": inside, "b": SIZE + box(xmax=1)}})
    records = load_voc_instances(dirname, "train", ["cat"])
    assert [len(r["annotations"]) for r in records] == [1, 0]
    warnings = [r for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "dropped 3 boxes without area" in warnings[0].getMessage()
    assert "a.xml" in warnings[0].getMessage()


def test_lists_per_class_have_a_second_column(voc):
    Path(voc, "ImageSets/Main/cat_train.txt").write_text("b  1\na -1\n", encoding="utf-8")
    assert read_voc_split(voc, "cat_train") == ["b", "a"]


def test_names_may_have_spaces(voc):
    Path(voc, "ImageSets/Main/other.txt").write_text("a cat 1 \n\nthe dog\n", encoding="utf-8")
    assert read_voc_split(voc, "other") == ["a cat 1", "the dog"]


def test_images_may_have_another_extension(voc):
    Path(voc, "JPEGImages/a.jpg").rename(Path(voc, "JPEGImages/a.PNG"))
    records = load_voc_instances(voc, "train", ["cat", "dog"])
    assert records[1]["file_name"].endswith("a.PNG")


def test_classes_are_those_of_all_splits_sorted(voc):
    assert read_voc_class_names(voc) == ["cat", "cow", "dog"]


@pytest.mark.parametrize(
    "inside, message",
    [
        (box(), r"a\.xml: has no <size>; expected <size><width>"),
        ("<size><width>6</width></size>", r"a\.xml: an <annotation> has no 'size/height'"),
        ("<size><width>0</width><height>4</height></size>", r"a\.xml: <size> is 0 x 4"),
        (SIZE + box("cta"), r"class 'cta', which is not .*\(cat, dog\)\. Did you mean 'cat'"),
        (SIZE + box(xmin="left"), r"a\.xml: 'bndbox/xmin' is 'left'; expected a number"),
        (SIZE + box(xmin="nan"), r"a\.xml: 'bndbox/xmin' is 'nan'; expected a number"),
        (SIZE + "<object><name>cat</name></object>", r"an <object> has no 'bndbox/xmin'"),
        (SIZE + "<object></object>", r"a\.xml: an <object> has no 'name'"),
        (SIZE + "<object>", r"a\.xml: not valid XML \(mismatched tag: line 1"),
    ],
)
def test_bad_annotation_files_are_one_clear_line(tmp_path, inside, message):
    dirname = make_voc(tmp_path / "voc", {"train": {"a": inside}})
    with pytest.raises(ValueError, match=message) as caught:
        load_voc_instances(dirname, "train", ["cat", "dog"])
    assert "\n" not in str(caught.value)


def test_missing_parts_are_named(voc, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no split 'trian'\. Did you mean 'train'"):
        load_voc_instances(voc, "trian", ["cat"])
    with pytest.raises(FileNotFoundError, match=r"nowhere.*folder not found; a VOC dataset"):
        load_voc_instances(str(tmp_path / "nowhere"), "train", ["cat"])
    Path(voc, "Annotations/a.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.xml: annotation file not found"):
        load_voc_instances(voc, "train", ["cat", "dog"])
    Path(voc, "JPEGImages/a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"no image called 'a' \(1 of the 2 images"):
        load_voc_instances(voc, "train", ["cat", "dog"])


@pytest.mark.parametrize("lines, problem", [("", "is empty"), ("a\nb\na\n", "has an image twice")])
def test_bad_lists_are_errors(voc, lines, problem):
    Path(voc, "ImageSets/Main/train.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"train\.txt: the list {problem}"):
        load_voc_instances(voc, "train", ["cat"])


def test_a_folder_without_any_object_has_no_classes(tmp_path):
    dirname = make_voc(tmp_path / "voc", {"train": {"a": SIZE}})
    with pytest.raises(ValueError, match="no XML file there has an object"):
        read_voc_class_names(dirname)


def test_registering(voc):
    register_pascal_voc("my_voc", voc, "train", 2012, ["cat", "dog"])
    try:
        assert len(DatasetCatalog.get("my_voc")) == 2
        assert MetadataCatalog.get("my_voc").as_dict() == {
            "name": "my_voc",
            "thing_classes": ["cat", "dog"],
            "dirname": voc,
            "year": 2012,
            "split": "train",
        }
    finally:
        DatasetCatalog.remove("my_voc")
        MetadataCatalog.remove("my_voc")


def test_class_names_are_alphabetical():
    assert len(CLASS_NAMES) == 20
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)


ROOT = os.environ.get("D2LITE_DATASETS")


@pytest.mark.skipif(
    not ROOT or not os.path.isdir(os.path.join(ROOT, "bccd")),
    reason="set D2LITE_DATASETS to a folder that has bccd/",
)
def test_the_real_blood_cells(caplog):
    """Counts by a separate count of the files' <object> elements."""
    dirname = os.path.join(ROOT, "bccd")
    counts = {}
    for split, num_images in (("train", 205), ("val", 87), ("test", 72)):
        records = DatasetCatalog.get(f"voc:{dirname}?split={split}")
        assert len(records) == num_images
        counts[split] = sum(len(r["annotations"]) for r in records)
    assert sum(counts.values()) == 4155 + 372 + 361 - 2
    assert caplog.text.count("dropped 1 boxes without area") == 2
    assert MetadataCatalog.get(f"voc:{dirname}?split=val").thing_classes == [
        *("Platelets", "RBC", "WBC")
    ]
    assert len(DatasetCatalog.get("bccd_val")) == 87


@pytest.mark.parametrize("encoding", ["gbk", "no_such"])
def test_encodings_that_cannot_be_read_name_the_file(voc, encoding):
    for xml_file in Path(voc, "Annotations").iterdir():
        xml_file.write_text(f'<?xml version="1.0" encoding="{encoding}"?><annotation/>')
    with pytest.raises(ValueError, match=r"\w\.xml: not valid XML \(.*encoding"):
        load_voc_instances(voc, "train", ["cat"])
