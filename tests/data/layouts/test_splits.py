"""Random splits: classes in both parts, copies in one, and what cannot be split."""

import os

import pytest

from d2lite.data.layouts import split_records
from tests.data.layouts.tiny import draw, labeled, record, thing


def test_each_class_with_two_images_is_in_both_parts(unsplit):
    for seed in range(20):
        train, val = split_records(unsplit, unsplit.splits["all"], 0.2, seed)
        assert len(train) + len(val) == 20 and len(val) == 4
        for part in (train, val):
            assert {0, 1} <= {a["category_id"] for r in part for a in r["annotations"]}
        assert 2 in {a["category_id"] for r in train for a in r["annotations"]}


def test_copies_of_an_image_stay_together(tmp_path):
    paths = [draw(tmp_path / f"{i}.png", i // 2) for i in range(8)]
    paths += [
        draw(tmp_path / f"photo_jpg.rf.{'0123456789abcdef' * 2}{i}.png", 9 + i) for i in (1, 2)
    ]
    data = labeled(tmp_path, splits={"all": []})
    records = [record(path, thing()) for path in paths]
    for seed in range(10):
        train, val = split_records(data, records, 0.3, seed)
        names = {os.path.basename(r["file_name"])[:5] for r in train}
        for one, other in (("0.png", "1.png"), ("2.png", "3.png"), ("6.png", "7.png")):
            assert (one in names) == (other in names)
        assert sum("photo" in r["file_name"] for r in train) in (0, 2)
        assert val


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_out_of_range(unsplit, share):
    with pytest.raises(ValueError, match="share of a split must be above 0 and below 1"):
        split_records(unsplit, unsplit.splits["all"], share, 0)


def test_one_image_cannot_be_split(tmp_path):
    data = labeled(tmp_path, splits={"all": ["a.png"]})
    with pytest.raises(ValueError, match="cannot be split into two parts"):
        split_records(data, data.splits["all"], 0.5, 0)
