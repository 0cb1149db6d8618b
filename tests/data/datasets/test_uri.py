"""Datasets given by URI: what they stand for, and every way to get one wrong."""

import json
from pathlib import Path

import pytest

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.uri import parse_dataset_uri
from tests.data.datasets.test_coco import example
from tests.data.datasets.test_pascal_voc import SIZE, box, make_voc


@pytest.fixture(autouse=True)
def forget_uris():
    yield
    for registry in (DatasetCatalog, MetadataCatalog):
        for name in [n for n in registry.list() if ":" in n]:
            registry.remove(name)


@pytest.fixture
def coco(tmp_path):
    """Path of a COCO file, whose images are in the folder `photos` beside it."""
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "photos" / name).touch()
    (tmp_path / "train.json").write_text(json.dumps(example()))
    return str(tmp_path / "train.json")


@pytest.fixture
def voc(tmp_path):
    return make_voc(
        tmp_path / "voc",
        {
            "train": {"a": SIZE + box("cat") + box("dog")},
            "val": {"b": SIZE + box("cow") + box("dog")},
        },
    )


def test_coco_reads_its_categories_from_the_file(coco):
    uri = f"coco:{coco}?images={Path(coco).parent}/photos"
    metadata = MetadataCatalog.get(uri)  # before the data are loaded
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {4: 0, 9: 1}
    assert (metadata.json_file, metadata.evaluator_type) == (coco, "coco")
    records = DatasetCatalog.get(uri)
    assert [r["image_id"] for r in records] == [3, 7]
    assert [a["category_id"] for a in records[1]["annotations"]] == [1, 0]
    assert records[1]["file_name"] == f"{Path(coco).parent}/photos/b.jpg"


def test_coco_images_default_to_the_folder_of_the_file(coco):
    for name in ("a.jpg", "b.jpg"):
        (Path(coco).parent / name).touch()
    records = DatasetCatalog.get(f"coco:{coco}")
    assert records[0]["file_name"] == f"{Path(coco).parent}/a.jpg"


def test_relative_paths_and_home(coco, monkeypatch):
    monkeypatch.chdir(Path(coco).parent)
    assert len(DatasetCatalog.get("coco:train.json?images=photos")) == 2
    monkeypatch.setenv("HOME", str(Path(coco).parent))
    assert len(DatasetCatalog.get("coco:~/train.json?images=~/photos")) == 2


def test_percent_encoding(tmp_path, coco):
    odd = tmp_path / "100% a&b+c? d"
    odd.mkdir()
    Path(coco).rename(odd / "train.json")
    uri = f"coco:{tmp_path}/100%25 a%26b+c%3F%20d/train.json?images={tmp_path}/photos"
    assert len(DatasetCatalog.get(uri)) == 2


def test_coco_classes_fix_names_and_order(coco):
    uri = f"coco:{coco}?images={Path(coco).parent}/photos&classes=dog,cat"
    assert MetadataCatalog.get(uri).thing_classes == ["dog", "cat"]
    assert [a["category_id"] for a in DatasetCatalog.get(uri)[1]["annotations"]] == [0, 1]
    assert MetadataCatalog.get(uri).json_file == coco


def test_coco_classes_that_are_not_named_are_left_out(coco):
    uri = f"coco:{coco}?images={Path(coco).parent}/photos&classes=dog"
    assert [a["category_id"] for a in DatasetCatalog.get(uri)[1]["annotations"]] == [0]
    # The evaluation must not take ground truth from the file, which has cats.
    assert MetadataCatalog.get(uri).get("json_file") is None


def test_coco_categories_are_found_beside_other_lists_of_that_name(tmp_path):
    contents = {"info": {"categories": [1, 2], "note": '"categories": [{'}, **example()}
    contents["images"] = []
    contents["annotations"] = []
    (tmp_path / "odd.json").write_text(json.dumps(contents))
    assert MetadataCatalog.get(f"coco:{tmp_path}/odd.json").thing_classes == ["cat", "dog"]


def test_coco_keypoints_come_from_the_categories(tmp_path):
    contents = {"images": [], "annotations": []}
    contents["categories"] = [
        {
            "id": 1,
            "name": "bird",
            "keypoints": ["beak", "left_wing", "right_wing"],
            "skeleton": [[1, 2], [1, 3]],
        }
    ]
    (tmp_path / "birds.json").write_text(json.dumps(contents))
    metadata = MetadataCatalog.get(f"coco:{tmp_path}/birds.json")
    assert metadata.keypoint_names == ["beak", "left_wing", "right_wing"]
    assert metadata.keypoint_flip_map == [("left_wing", "right_wing")]
    rules = metadata.keypoint_connection_rules
    assert [rule[:2] for rule in rules] == [("beak", "left_wing"), ("beak", "right_wing")]
    assert len({rule[2] for rule in rules}) == 2


def test_different_keypoints_by_category_give_no_keypoint_metadata(tmp_path):
    contents = {"images": [], "annotations": []}
    contents["categories"] = [
        {"id": 1, "name": "bird", "keypoints": ["beak"]},
        {"id": 2, "name": "fish", "keypoints": ["fin"]},
    ]
    (tmp_path / "mixed.json").write_text(json.dumps(contents))
    assert not hasattr(MetadataCatalog.get(f"coco:{tmp_path}/mixed.json"), "keypoint_names")


def test_voc_splits_agree_on_the_classes(voc):
    for split in ("train", "val"):
        metadata = MetadataCatalog.get(f"voc:{voc}?split={split}")
        assert metadata.thing_classes == ["cat", "cow", "dog"]
        assert metadata.evaluator_type == "coco"
        assert (metadata.dirname, metadata.split) == (voc, split)
    (record,) = DatasetCatalog.get(f"voc:{voc}?split=val")
    assert [a["category_id"] for a in record["annotations"]] == [1, 2]
    assert record["annotations"][0]["bbox"] == [0, 1, 30, 40]  # VOC's reading, as by name


def test_voc_classes_fix_names_and_order(voc):
    uri = f"voc:{voc}?split=train&classes=dog,cat"
    assert MetadataCatalog.get(uri).thing_classes == ["dog", "cat"]
    (record,) = DatasetCatalog.get(uri)
    assert [a["category_id"] for a in record["annotations"]] == [1, 0]
    (record,) = DatasetCatalog.get(f"voc:{voc}?split=val&classes=dog,cat")
    assert [a["category_id"] for a in record["annotations"]] == [0]  # no cow


def test_voc_classes_that_do_not_occur_are_reported(voc, caplog):
    assert MetadataCatalog.get(f"voc:{voc}?split=train&classes=cat,dgo").thing_classes == [
        *("cat", "dgo")
    ]
    assert "no annotation is of class 'dgo'. Did you mean 'dog'" in caplog.text


def test_voc_metric_can_be_chosen(voc):
    metadata = MetadataCatalog.get(f"voc:{voc}?split=train&evaluator=pascal_voc&year=2007")
    assert (metadata.evaluator_type, metadata.year) == ("pascal_voc", 2007)


def test_class_names_may_hold_a_comma():
    parsed = parse_dataset_uri("coco:x.json?classes=a%2Cb,c%20d")
    assert parsed.classes == ["a,b", "c d"]
    assert (parsed.scheme, parsed.path, parsed.options) == ("coco", "x.json", {})


@pytest.mark.parametrize(
    "uri, message",
    [
        ("coco:", "there is no path after 'coco:'"),
        ("coco:?images=x", "there is no path after 'coco:'"),
        ("coco:{coco}?image=x", "unknown option 'image'. Did you mean 'images'"),
        ("coco:{coco}?images=", "option 'images' has no value"),
        ("coco:{coco}?images=a&images=b", "option 'images' is given twice"),
        ("coco:{coco}?classes=cat,,dog", "'classes' has an empty or a repeated name"),
        ("coco:{coco}?classes=cat,cat", "'classes' has an empty or a repeated name"),
        ("coco:{coco}?classes=cat,dgo", "has no category 'dgo'. Did you mean 'dog'"),
        ("voc:{voc}", "add the split, such as '\\?split=train'"),
        ("voc:{voc}?split=train&evaluator=lvis", "'evaluator' is 'lvis'; use one of coco, pascal"),
        ("voc:{voc}?split=train&year=2010", "'year' is '2010'; use one of 2012, 2007"),
    ],
)
def test_malformed_uris_are_one_clear_line(coco, voc, uri, message):
    for get in (DatasetCatalog.get, MetadataCatalog.get):
        with pytest.raises(ValueError, match=message) as caught:
            get(uri.format(coco=coco, voc=voc))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "uri, message",
    [
        ("coco:none.json", r"none\.json: annotation file not found"),
        ("coco:{coco}?images=none", "image folder 'none' not found; give it as"),
        ("voc:none?split=train", "none/ImageSets/Main: folder not found"),
        ("voc:{voc}?split=trian", "no split 'trian'. Did you mean 'train'"),
    ],
)
def test_missing_files_are_one_clear_line(coco, voc, uri, message):
    for get in (DatasetCatalog.get, MetadataCatalog.get):
        with pytest.raises(FileNotFoundError, match=message) as caught:
            get(uri.format(coco=coco, voc=voc))
        assert "\n" not in str(caught.value)


def test_a_wrong_image_folder_is_told_before_training(coco):
    with pytest.raises(FileNotFoundError, match=r"a\.jpg: this image of .* does not exist"):
        DatasetCatalog.get(f"coco:{coco}")


def test_a_cut_off_file_is_told_at_the_first_look(tmp_path):
    (tmp_path / "cut.json").write_text(json.dumps(example(), indent=1)[:-9])
    with pytest.raises(ValueError, match=r"cut\.json: not valid JSON at line"):
        DatasetCatalog.get(f"coco:{tmp_path}/cut.json")
    (tmp_path / "short.json").write_text(json.dumps(example())[:100])  # within the images
    with pytest.raises(ValueError, match=r"short\.json: not valid JSON at line"):
        MetadataCatalog.get(f"coco:{tmp_path}/short.json")
