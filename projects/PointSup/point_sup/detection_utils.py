"""Transforms of annotations with points, and their conversion to Instances."""

from collections.abc import Sequence

import numpy as np
import torch
from fvcore.transforms.transform import Transform

from d2lite.data import detection_utils as utils
from d2lite.structures import Instances

OUTSIDE = -1  # label of points that are not trained on


def transform_instance_annotations(
    annotation: dict, transforms: Transform | Sequence[Transform], image_size: tuple[int, int]
) -> dict:
    """Transform an annotation like `d2lite.data.detection_utils`, including its points.

    Args:
        annotation: changed and returned. Its "point_coords", pairs of x and y in pixels, become a
            (P, 2) array; its "point_labels" a (P,) array, with -1 for points outside of the image.
        transforms: applied to the annotation.
        image_size: (H, W) after the transforms.
    """
    annotation = utils.transform_instance_annotations(annotation, transforms, image_size)
    if _has_points(annotation):
        coords = np.array(annotation["point_coords"], dtype=np.float64).reshape(-1, 2)
        coords = transforms.apply_coords(coords)
        labels = np.array(annotation["point_labels"], dtype=np.float64)
        inside = ((coords >= 0) & (coords <= image_size[::-1])).all(axis=1)
        labels[~inside] = OUTSIDE
        annotation["point_coords"], annotation["point_labels"] = coords, labels
    return annotation


def annotations_to_instances(
    annos: list[dict], image_size: tuple[int, int], sample_points: int = 0
) -> Instances:
    """Convert annotations like `d2lite.data.detection_utils`, including their points.

    Args:
        annos: annotations after `transform_instance_annotations`.
        image_size: (H, W).
        sample_points: number of points drawn per object, with replacement if it has fewer; 0: all.

    Returns:
        Instances with `gt_boxes` and `gt_classes`. If the annotations have points, also with
        `gt_point_coords`, (M, P, 2) in pixels, and `gt_point_labels`, (M, P).

    Raises:
        ValueError: some objects have no points, or the numbers of points differ.
    """
    target = utils.annotations_to_instances(annos, image_size)
    with_points = [anno for anno in annos if _has_points(anno)]
    if not with_points:
        return target
    counts = {len(anno["point_coords"]) for anno in with_points}
    if len(with_points) < len(annos) or (len(counts) > 1 and sample_points == 0):
        raise ValueError(
            f"{len(with_points)} of the {len(annos)} objects of an image have points, "
            f"{sorted(counts)} each; give all the same number, or set INPUT.SAMPLE_POINTS"
        )
    coords, labels = [], []
    for anno in annos:
        chosen = np.arange(len(anno["point_coords"]))
        if sample_points > 0:
            replace = len(chosen) < sample_points
            chosen = np.random.choice(len(chosen), sample_points, replace=replace)
        coords.append(np.asarray(anno["point_coords"])[chosen])
        labels.append(np.asarray(anno["point_labels"])[chosen])
    target.gt_point_coords = torch.from_numpy(np.stack(coords))
    target.gt_point_labels = torch.from_numpy(np.stack(labels))
    return target


def _has_points(annotation: dict) -> bool:
    found = [key for key in ("point_coords", "point_labels") if key in annotation]
    if len(found) == 1:
        raise ValueError(f"an annotation has {found[0]!r} alone; point_coords need point_labels")
    return bool(found)
