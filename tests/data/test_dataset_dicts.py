"""Datasets are joined, filtered and checked, and get their proposals."""

import pickle

import numpy as np
import pytest
import torch
import torch.utils.data as torchdata

from d2lite.data.dataset_dicts import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    get_detection_dataset_dicts,
    load_proposals_into_dataset,
    print_instances_class_histogram,
)
from d2lite.structures import BoxMode
from tests.golden import load_case

FILTERS = load_case("dataset.filters")


def _numbered(dicts: list[dict]) -> list[dict]:
    return [{**one, "id": i} for i, one in enumerate(dicts)]


def test_golden_filters():
    dicts = _numbered(FILTERS.params["dicts"])
    kept = filter_images_with_only_crowd_annotations(dicts)
    FILTERS.check("crowd_filtered", [one["id"] for one in kept])
    kept = filter_images_with_few_keypoints(dicts, FILTERS.params["min_keypoints"])
    FILTERS.check("keypoint_filtered", [one["id"] for one in kept])


def _dict(*categories: int, **more) -> dict:
    annotations = [{"category_id": category, "bbox": [0, 0, 1, 1]} for category in categories]
    return {"file_name": "a.jpg", "image_id": 1, "annotations": annotations, **more}


def test_data_sets_are_joined_and_filtered(register):
    first = register("test_b_1", [_dict(0), _dict()], thing_classes=["x", "y"])
    second = register("test_b_2", [_dict(1, 1)], thing_classes=["x", "y"])
    assert len(get_detection_dataset_dicts([first, second])) == 2
    assert len(get_detection_dataset_dicts((first, second), filter_empty=False)) == 3
    assert len(get_detection_dataset_dicts(first, filter_empty=False)) == 2


@pytest.mark.parametrize("category", [2, -1])
def test_category_ids_out_of_range_name_the_image(register, category):
    name = register("test_b_1", [_dict(0, category)], thing_classes=["x", "y"])
    with pytest.raises(ValueError, match=rf"a.jpg: .* category_id {category}, but the 2 thing"):
        get_detection_dataset_dicts(name)
    assert len(get_detection_dataset_dicts(name, check_consistency=False)) == 1


def test_different_classes_are_not_mixed(register):
    first = register("test_b_1", [_dict(0)], thing_classes=["x"])
    second = register("test_b_2", [_dict(0)], thing_classes=["z"])
    third = register("test_b_3", [_dict(0)])
    with pytest.raises(ValueError, match=r"'thing_classes'.*test_b_1.*test_b_2"):
        get_detection_dataset_dicts([first, second])
    with pytest.raises(ValueError, match=r"all have class names: .*test_b_3"):
        get_detection_dataset_dicts([first, third])
    assert len(get_detection_dataset_dicts(third)) == 1


def test_empty_data_sets_are_named(register):
    with pytest.raises(ValueError, match="'test_b_1' is empty"):
        get_detection_dataset_dicts(register("test_b_1", []))
    with pytest.raises(ValueError, match="DATASETS"):
        get_detection_dataset_dicts([])
    crowds = register("test_b_2", [{"annotations": [{"category_id": 0, "iscrowd": 1}]}])
    with pytest.raises(ValueError, match=r"no image of test_b_2 .*FILTER_EMPTY_ANNOTATIONS"):
        get_detection_dataset_dicts(crowds)


def test_torch_data_sets_pass_through(register):
    one = torchdata.TensorDataset(torch.zeros(3))
    first, second = register("test_b_1", one), register("test_b_2", one)
    assert get_detection_dataset_dicts(first) is one
    assert len(get_detection_dataset_dicts([first, second])) == 6


def test_histogram_counts_what_is_no_crowd(caplog):
    caplog.set_level("INFO")
    dicts = [_dict(0, 2, 2), {"annotations": [{"category_id": 1, "iscrowd": 1}]}, {}]
    print_instances_class_histogram(dicts, ["a", "b", "a_very_long_class_name"])
    text = " ".join(caplog.text.split())
    for cell in ("a | 1", "b | 0", "a_very_long.. | 2", "total | 3"):
        assert cell in text


def _proposals(**change) -> dict:
    return {
        "ids": ["7", "1"],
        "boxes": [np.zeros((1, 4)), np.array([[0.0, 0, 1, 1], [0, 0, 2, 2]])],
        "objectness_logits": [np.zeros(1), np.array([1.0, 5.0])],
        **change,
    }


def _write(path, content) -> str:
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return str(path)


def test_proposals_are_sorted_into_the_dicts(tmp_path):
    file = _write(tmp_path / "p.pkl", _proposals(bbox_mode=BoxMode.XYWH_ABS))
    (one,) = load_proposals_into_dataset([_dict(0)], file)
    assert one["proposal_boxes"].tolist() == [[0, 0, 2, 2], [0, 0, 1, 1]]
    assert one["proposal_objectness_logits"].tolist() == [5, 1]
    assert one["proposal_bbox_mode"] == BoxMode.XYWH_ABS


def test_proposals_in_detectron1s_words(tmp_path):
    old = _proposals()
    old["indexes"], old["scores"] = old.pop("ids"), old.pop("objectness_logits")
    (one,) = load_proposals_into_dataset([_dict(0)], _write(tmp_path / "p.pkl", old))
    assert one["proposal_bbox_mode"] == BoxMode.XYXY_ABS


@pytest.mark.parametrize(
    "content, words",
    [
        (_proposals(ids=["7", "8"]), "no proposals for image_id 1"),
        ({"ids": []}, "has no boxes, objectness_logits"),
        ([1], "expected a dict, found a list"),
        (b"", "not a file of proposals"),
        (pickle.dumps({"ids": print}), "builtins.print"),
    ],
)
def test_wrong_proposal_files_are_named(tmp_path, content, words):
    with pytest.raises(ValueError, match=rf"p.pkl.*{words}"):
        load_proposals_into_dataset([_dict(0)], _write(tmp_path / "p.pkl", content))


def test_each_data_set_has_its_proposal_file(register, tmp_path):
    name = register("test_b_1", [_dict(0)])
    file = _write(tmp_path / "p.pkl", _proposals())
    (one,) = get_detection_dataset_dicts(name, proposal_files=[file])
    assert len(one["proposal_boxes"]) == 2
    with pytest.raises(ValueError, match="2 proposal files for 1 datasets"):
        get_detection_dataset_dicts(name, proposal_files=[file, file])
