"""The two catalogs, and dataset URIs that go wherever a name does."""

import copy
import pickle

import pytest

from d2lite.data import catalog
from d2lite.data.catalog import (
    DatasetCatalog,
    Metadata,
    MetadataCatalog,
    ResolvedDataset,
    file_stem,
    is_dataset_uri,
    register_scheme,
)
from d2lite.data.datasets import register_coco_instances


@pytest.fixture(autouse=True)
def restore_catalogs():
    """Leave the catalogs and the schemes as they were."""
    before = dict(DatasetCatalog.data), dict(MetadataCatalog.data), dict(catalog._SCHEMES)
    yield
    DatasetCatalog.data, MetadataCatalog.data = before[0], before[1]
    catalog._SCHEMES.clear()
    catalog._SCHEMES.update(before[2])


def test_a_registered_function_is_called_at_every_get():
    calls = []
    DatasetCatalog.register("mine", lambda: calls.append(1) or [{"file_name": "a"}])
    assert not calls  # nothing is read before it is asked for
    assert DatasetCatalog.get("mine") == [{"file_name": "a"}]
    DatasetCatalog.get("mine")
    assert len(calls) == 2
    assert "mine" in DatasetCatalog.list()
    assert "mine" in str(DatasetCatalog)
    DatasetCatalog.remove("mine")
    assert "mine" not in DatasetCatalog


def test_registering_equal_files_again_is_fine(tmp_path):
    def register(json_file="a.json", **metadata):
        register_coco_instances("mine", metadata, json_file, str(tmp_path))

    register(thing_classes=["a"])
    register(thing_classes=["a"])
    with pytest.raises(AssertionError, match="'mine' is registered already"):
        register("b.json", thing_classes=["a"])
    with pytest.raises(AssertionError, match=r"'thing_classes' .* cannot be set to a different"):
        register(thing_classes=["b"])


def test_registering_a_name_twice_is_refused():
    DatasetCatalog.register("mine", list)
    with pytest.raises(AssertionError, match="'mine' is registered already"):
        DatasetCatalog.register("mine", list)


def test_registering_something_else_than_a_function_is_refused():
    with pytest.raises(AssertionError, match="needs a function"):
        DatasetCatalog.register("mine", [{"file_name": "a"}])


def test_an_unknown_name_is_an_error_with_near_names_and_uris():
    with pytest.raises(KeyError) as caught:
        DatasetCatalog.get("coco_2017_trian")
    message = str(caught.value)
    assert "'coco_2017_trian' is not registered" in message
    assert "'coco_2017_train'" in message
    assert "coco:train.json?images=photos" in message
    assert "\n" not in message


def test_an_unknown_scheme_is_an_error_with_the_known_ones():
    with pytest.raises(KeyError, match=r"URI \(coco:\.\.\., .*voc:\.\.\."):
        DatasetCatalog.get("yolo:here")


def test_metadata_refuse_a_different_value_and_take_an_equal_one():
    metadata = Metadata(name="mine").set(thing_classes=["cat", "dog"])
    metadata.thing_classes = ["cat", "dog"]
    with pytest.raises(AssertionError, match="'thing_classes' in the metadata of 'mine'"):
        metadata.thing_classes = ["dog", "cat"]


def test_missing_metadata_tell_what_there_is():
    metadata = MetadataCatalog.get("mine").set(thing_classes=["cat"])
    with pytest.raises(AttributeError, match=r"Did you mean 'thing_classes'.*It has: name, thing"):
        _ = metadata.thing_clases
    with pytest.raises(AttributeError, match="'empty': the metadata are empty"):
        _ = MetadataCatalog.get("empty").thing_classes
    assert not hasattr(metadata, "stuff_classes")
    assert metadata.get("stuff_classes") is None
    assert metadata.get("stuff_classes", 3) == 3
    assert metadata.get("thing_classes") == ["cat"]


def test_old_attribute_names_reach_the_new_ones():
    metadata = Metadata(name="mine").set(class_names=["cat"])
    assert metadata.thing_classes == metadata.class_names == ["cat"]


def test_metadata_are_one_object_by_name_and_can_be_removed():
    metadata = MetadataCatalog.get("mine").set(thing_classes=["cat"])
    assert MetadataCatalog.get("mine") is metadata
    as_dict = metadata.as_dict()
    assert as_dict == {"name": "mine", "thing_classes": ["cat"]}
    as_dict["name"] = "other"
    assert metadata.name == "mine"
    MetadataCatalog.remove("mine")
    assert "mine" not in MetadataCatalog.list()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_metadata_can_be_copied_for_workers(duplicate):
    metadata = Metadata(name="mine").set(thing_classes=["cat"])
    assert duplicate(metadata) == metadata


def test_both_catalogs_take_a_uri_and_resolve_it_once():
    calls = []

    def resolve(uri):
        calls.append(uri)
        return ResolvedDataset(lambda: [{"file_name": uri}], {"thing_classes": ["cat"]})

    register_scheme("mine", resolve)
    assert is_dataset_uri("mine:x")
    assert not is_dataset_uri("mine")
    assert MetadataCatalog.get("mine:x").thing_classes == ["cat"]
    assert MetadataCatalog.get("mine:x").name == "mine:x"
    assert DatasetCatalog.get("mine:x") == [{"file_name": "mine:x"}]
    assert calls == ["mine:x"]


def test_a_uri_that_fails_leaves_nothing_behind():
    def resolve(uri):
        raise ValueError("no good")

    register_scheme("mine", resolve)
    for get in (DatasetCatalog.get, MetadataCatalog.get):
        with pytest.raises(ValueError, match="no good"):
            get("mine:x")
    assert "mine:x" not in DatasetCatalog.list() + MetadataCatalog.list()


@pytest.mark.parametrize("scheme", ["c", "Mine", "my scheme", ""])
def test_malformed_schemes_are_refused(scheme):
    with pytest.raises(ValueError, match="must be two or more lower-case"):
        register_scheme(scheme, lambda uri: None)


def test_a_taken_scheme_is_refused():
    with pytest.raises(ValueError, match="'coco' is registered already"):
        register_scheme("coco", lambda uri: None)


def test_a_windows_path_is_no_uri():
    assert not is_dataset_uri(r"c:\data\train.json")


def test_file_stems_are_safe_and_distinct():
    assert file_stem("coco_2017_test-dev") == "coco_2017_test-dev"
    first, second = file_stem("voc:/a/b?split=train"), file_stem("voc:/a_b?split=train")
    assert first != second
    assert first.startswith("voc_a_b_split_train_")
    assert not set(first) & set(r"/\:?&%")
    assert len(file_stem("coco:" + "x" * 500)) < 100
