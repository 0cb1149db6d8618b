"""The built-in names, against the list and the metadata of the reference."""

import json
import os
import subprocess
import sys

import pytest

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.builtin import datasets_root
from tests.golden import REFERENCE

API = json.loads((REFERENCE / "api.json").read_text())
# Where a dataset lies; the reference does not list these.
PLACES = {"json_file", "image_root", "panoptic_root", "panoptic_json", "sem_seg_root"}
PLACES |= {"dirname", "image_dir", "gt_dir"}


def test_the_names_are_the_reference_s_and_our_own():
    names = {name for name in DatasetCatalog.list() if ":" not in name}
    own = {n for n in names if n.startswith(("shapes_", "bccd_"))}
    assert names - own >= set(API["builtin_datasets"])
    assert {"shapes_train", "shapes_val", "bccd_train", "bccd_val", "bccd_test"} <= own


def described(value):
    """A value as the reference describes it: containers by type and length."""
    is_container = isinstance(value, list | tuple | dict)
    return f"{type(value).__name__} of {len(value)}" if is_container else value


@pytest.mark.parametrize("name", API["builtin_metadata_keys"])
def test_metadata_have_the_reference_s_keys(name):
    got = MetadataCatalog.get(name).as_dict()
    assert {k: described(v) for k, v in got.items() if k not in PLACES} == API[
        "builtin_metadata_keys"
    ][name]


@pytest.mark.parametrize("name", ["coco_2017_val", "lvis_v1_val", "ade20k_sem_seg_val"])
def test_absent_data_are_an_error_at_get_only(name):
    with pytest.raises(FileNotFoundError):
        DatasetCatalog.get(name)


def test_paths_follow_the_root():
    root = datasets_root()
    assert (
        MetadataCatalog.get("coco_2017_val_100_panoptic_separated").as_dict().items()
        >= {
            "image_root": os.path.join(root, "coco/val2017"),
            "json_file": os.path.join(root, "coco/annotations/instances_val2017_100.json"),
            "panoptic_root": os.path.join(root, "coco/panoptic_val2017_100"),
            "panoptic_json": os.path.join(root, "coco/annotations/panoptic_val2017_100.json"),
            "sem_seg_root": os.path.join(root, "coco/panoptic_stuff_val2017_100"),
        }.items()
    )
    assert MetadataCatalog.get("voc_2007_test").dirname == os.path.join(root, "VOC2007")
    panoptic = MetadataCatalog.get("cityscapes_fine_panoptic_val")
    assert panoptic.gt_dir == os.path.join(root, "cityscapes/gtFine/val")


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, "datasets"),
        ({"DETECTRON2_DATASETS": "/old"}, "/old"),
        ({"DETECTRON2_DATASETS": "/old", "D2LITE_DATASETS": "/new"}, "/new"),
    ],
)
def test_the_root_comes_from_the_environment(monkeypatch, variables, expected):
    for variable in ("DETECTRON2_DATASETS", "D2LITE_DATASETS"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert datasets_root() == expected


def test_the_root_is_read_at_import():
    code = (
        "from d2lite.data import MetadataCatalog;print(MetadataCatalog.get('voc_2012_val').dirname)"
    )
    env = {**os.environ, "D2LITE_DATASETS": "/elsewhere"}
    shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert shown.stdout.strip() == "/elsewhere/VOC2012", shown.stderr
