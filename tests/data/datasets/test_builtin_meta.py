"""Classes, ids, colors and keypoints of the datasets that have a name."""

import pytest

from d2lite.data.datasets import builtin_meta


def test_coco_categories_by_their_known_ids():
    """A few from COCO's own list, at the gaps of its ids."""
    by_id = {c["id"]: c["name"] for c in builtin_meta.COCO_CATEGORIES}
    assert len(by_id) == 80 + 53
    known = {1: "person", 11: "fire hydrant", 13: "stop sign", 27: "backpack", 90: "toothbrush"}
    known |= {92: "banner", 184: "tree-merged", 200: "rug-merged"}
    assert known.items() <= by_id.items()


def test_panoptic_metadata_agree_with_each_other():
    separated = builtin_meta.get_builtin_metadata("coco_panoptic_separated")
    assert separated["stuff_classes"][0] == "things"
    assert separated["stuff_dataset_id_to_contiguous_id"][0] == 0
    tree = separated["stuff_dataset_id_to_contiguous_id"][184]
    assert separated["stuff_classes"][tree] == "tree"
    standard = builtin_meta.get_builtin_metadata("coco_panoptic_standard")
    tree = standard["stuff_dataset_id_to_contiguous_id"][184]
    assert tree >= 80
    assert standard["stuff_classes"][tree] == standard["thing_classes"][tree] == "tree-merged"
    ids = standard["thing_dataset_id_to_contiguous_id"]
    assert sorted(ids.values()) == list(range(80))


def test_metadata_of_one_kind_do_not_share_containers():
    first = builtin_meta.get_builtin_metadata("coco")
    first["thing_classes"].append("x")
    assert len(builtin_meta.get_builtin_metadata("coco")["thing_classes"]) == 80


def test_unknown_kinds_are_refused():
    with pytest.raises(KeyError, match="there are: coco"):
        builtin_meta.get_builtin_metadata("yolo")


def test_person_keypoints_are_consistent():
    names = set(builtin_meta.COCO_PERSON_KEYPOINT_NAMES)
    assert len(names) == 17
    flipped = [name for pair in builtin_meta.COCO_PERSON_KEYPOINT_FLIP_MAP for name in pair]
    assert sorted(flipped) == sorted(names - {"nose"})
    ends = {name for rule in builtin_meta.KEYPOINT_CONNECTION_RULES for name in rule[:2]}
    assert ends <= names


def test_ade20k_and_cityscapes_classes():
    assert len(set(builtin_meta.ADE20K_SEM_SEG_CATEGORIES)) == 150
    assert builtin_meta.ADE20K_SEM_SEG_CATEGORIES[:3] == ["wall", "building", "sky"]
    assert builtin_meta.ADE20K_SEM_SEG_CATEGORIES[149] == "flag"
    train_ids = [c["trainId"] for c in builtin_meta.CITYSCAPES_CATEGORIES]
    assert train_ids == list(range(19))
