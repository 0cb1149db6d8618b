"""Folders registered as datasets: their names, classes, and the split that is made."""

import json
import logging
import os

import pytest

from d2lite.data import DatasetCatalog, MetadataCatalog
from d2lite.data.layouts import read_folder, register_folder, write_folder
from tests.data.layouts.tiny import labeled, thing


@pytest.fixture(autouse=True)
def forget():
    yield
    for catalog in (DatasetCatalog, MetadataCatalog):
        for name in [name for name in catalog.list() if name.startswith("folder:")]:
            catalog.remove(name)


@pytest.fixture
def coco(tmp_path):
    write_folder(labeled(tmp_path), str(tmp_path / "data set"), "coco")
    return str(tmp_path / "data set")


def test_splits_that_are_there_are_taken(coco, tmp_path):
    found = register_folder(coco, output_dir=str(tmp_path / "run"))
    assert (found.layout, found.class_names, found.kinds) == ("coco", ["cat", "dog"], ("boxes",))
    assert (found.sizes, found.split_file, found.test) == ({"train": 4, "val": 2}, None, None)
    assert len(DatasetCatalog.get(found.train)) == 4
    assert len(DatasetCatalog.get(found.val)) == 2
    assert MetadataCatalog.get(found.train).thing_classes == ["cat", "dog"]
    assert MetadataCatalog.get(found.val).evaluator_type == "coco"
    assert found.summary() == ("COCO JSON: 4 train, 2 val images; 2 classes (cat, dog); boxes")
    assert not (tmp_path / "run").exists()


def test_names_work_in_another_program(coco, tmp_path):
    found = register_folder(coco, output_dir=str(tmp_path))
    before = DatasetCatalog.get(found.train)
    metadata = MetadataCatalog.get(found.train).as_dict()
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.remove(found.train)
    assert DatasetCatalog.get(found.train) == before
    assert MetadataCatalog.get(found.train).as_dict() == metadata


def test_a_made_split_is_written_down_and_the_same_again(unsplit, tmp_path):
    write_folder(unsplit, str(tmp_path / "data"), "voc")
    found = register_folder(str(tmp_path / "data"), output_dir=str(tmp_path / "run"))
    assert found.sizes == {"train": 16, "val": 4}
    assert "split written to" in found.summary()
    written = json.loads((tmp_path / "run" / "split.json").read_text(encoding="utf-8"))
    assert (written["val_share"], written["seed"]) == (0.2, 0)
    for split, name in (("train", found.train), ("val", found.val)):
        names = [os.path.basename(r["file_name"]) for r in DatasetCatalog.get(name)]
        assert [os.path.basename(path) for path in written[split]] == names
    again = register_folder(str(tmp_path / "data"), output_dir=str(tmp_path / "run2"))
    assert again.train == found.train
    assert (tmp_path / "run2" / "split.json").read_text(encoding="utf-8") == (
        tmp_path / "run" / "split.json"
    ).read_text(encoding="utf-8")
    other = register_folder(str(tmp_path / "data"), output_dir=str(tmp_path / "run3"), seed=1)
    assert DatasetCatalog.get(other.val) != DatasetCatalog.get(found.val)


def test_a_split_that_changed_is_said(unsplit, tmp_path, caplog):
    write_folder(unsplit, str(tmp_path / "data"), "labelimg")
    register_folder(str(tmp_path / "data"), output_dir=str(tmp_path / "run"))
    os.remove(tmp_path / "data" / "00.xml")
    with caplog.at_level(logging.WARNING):
        register_folder(str(tmp_path / "data"), output_dir=str(tmp_path / "run"))
    assert "the data have changed since" in caplog.text


def test_validation_is_taken_from_train_where_there_is_a_test_set(tmp_path):
    files = {"train": [f"{i}.png" for i in range(6)], "test": ["t1.png", "t2.png"]}
    write_folder(labeled(tmp_path, splits=files), str(tmp_path / "data"), "voc")
    found = register_folder(str(tmp_path / "data"), output_dir=str(tmp_path), val_share=0.34)
    assert found.sizes == {"train": 4, "val": 2, "test": 2}
    assert len(DatasetCatalog.get(found.test)) == 2
    assert any("no validation set" in note for note in found.notes)


def test_classes_in_one_split_only_are_said(tmp_path):
    data = labeled(tmp_path, lambda number: [thing(0 if number < 4 else 1)])
    write_folder(data, str(tmp_path / "data"), "voc")
    found = register_folder(str(tmp_path / "data"), output_dir=str(tmp_path))
    assert found.class_names == ["cat", "dog"]
    assert "train has no object of dog: cannot be learned" in found.notes
    assert "val has no object of cat: cannot be evaluated" in found.notes


def test_uri_with_some_of_the_classes(coco):
    uri = f"folder:{coco}?split=train&classes=dog"
    assert MetadataCatalog.get(uri).thing_classes == ["dog"]
    found = [a for r in DatasetCatalog.get(uri) for a in r["annotations"]]
    assert {a["category_id"] for a in found} == {0} and len(found) == 3


def test_uri_without_split_has_all_images(coco):
    assert len(DatasetCatalog.get(f"folder:{coco}")) == 6


@pytest.mark.parametrize(
    "options, message",
    [
        ("split=test", "there is no split 'test'; it has train, val"),
        ("split=train&classes=cow", "there is no class 'cow'; it has cat, dog"),
        ("layout=coko", "no layout 'coko'. Did you mean 'coco'"),
        ("split=train&seed=x", "'seed' is 'x'; expected a number"),
    ],
)
def test_bad_uris(coco, options, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        DatasetCatalog.get(f"folder:{coco}?{options}")


def test_missing_images_are_named(coco, tmp_path):
    os.remove(os.path.join(coco, "images", "train", "a.png"))
    with pytest.raises(FileNotFoundError, match=r"1 image not found, the first is .*a\.png"):
        register_folder(coco, output_dir=str(tmp_path))
    assert len(read_folder(coco).missing) == 1
