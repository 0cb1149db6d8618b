"""Keypoint metadata from categories, by hand."""

import pytest

from d2lite.data.datasets.keypoint_meta import keypoint_metadata

NAMES = ["nose", "left_eye", "right_eye", "left_ear", "RIGHT", "LEFT"]


def test_names_pairs_and_connections():
    found = keypoint_metadata([{"keypoints": NAMES, "skeleton": [[1, 2], [2, 6]]}] * 2)
    assert found["keypoint_names"] == NAMES
    # The left ear has no partner.
    assert found["keypoint_flip_map"] == [("left_eye", "right_eye"), ("LEFT", "RIGHT")]
    # Hues 0 and 1/2 with a saturation of 0.7: 255 * (1 - 0.7) is 76.5 and a bit.
    assert found["keypoint_connection_rules"] == [
        ("nose", "left_eye", (255, 77, 77)),
        ("left_eye", "LEFT", (77, 255, 255)),
    ]


@pytest.mark.parametrize(
    "categories",
    [
        [],
        [{}],
        [{"keypoints": []}],
        [{"keypoints": "nose"}],
        [{"keypoints": ["nose", 1]}],
        [{"keypoints": ["nose"]}, {}],
        [{"keypoints": ["nose", "ear"]}, {"keypoints": ["ear", "nose"]}],
    ],
)
def test_no_keypoints_that_all_categories_have(categories):
    assert keypoint_metadata(categories) == {}


@pytest.mark.parametrize(
    "skeleton", [None, 5, [], [[0, 1]], [[1, 7]], [[1]], [[1.0, 2]], [[True, 2]], ["12"]]
)
def test_pairs_that_name_no_keypoints_are_left_out(skeleton):
    found = keypoint_metadata([{"keypoints": NAMES, "skeleton": skeleton}])
    assert found["keypoint_names"] == NAMES and found["keypoint_connection_rules"] == []
