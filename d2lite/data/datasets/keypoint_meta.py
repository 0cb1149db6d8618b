"""Keypoint metadata from the categories of a COCO file."""

import colorsys


def keypoint_metadata(categories: list[dict]) -> dict:
    """Return names, flip map and connections if all categories have the same keypoints.

    The flip map pairs names that differ only in "left" and "right"; connections come from the
    category's `skeleton` (pairs of positions, from 1), in colors of our choice.

    Returns:
        metadata; empty if the categories have no keypoints, or different ones.
    """
    names = categories[0].get("keypoints") if categories else None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        return {}
    if any(category.get("keypoints") != names for category in categories):
        return {}
    mirrored = {name: name.replace("left", "right").replace("LEFT", "RIGHT") for name in names}
    given = categories[0].get("skeleton")
    # It only says what to draw, so malformed pairs are left out without an error.
    skeleton = [
        pair
        for pair in (given if isinstance(given, list) else [])
        if isinstance(pair, list)
        and len(pair) == 2
        and all(type(place) is int and 1 <= place <= len(names) for place in pair)
    ]
    colors = [colorsys.hsv_to_rgb(i / len(skeleton), 0.7, 1.0) for i in range(len(skeleton))]
    return {
        "keypoint_names": list(names),
        "keypoint_flip_map": [
            (left, right) for left, right in mirrored.items() if left != right and right in mirrored
        ],
        "keypoint_connection_rules": [
            (names[a - 1], names[b - 1], tuple(round(255 * v) for v in color))
            for (a, b), color in zip(skeleton, colors, strict=True)
        ],
    }
