"""Choice of points, and reading of features and labels at points (Kirillov et al. 2020, sec. 3).

Points of a box or an image are (R, P, 2) pairs of x and y in [0, 1], from its top left corner to
its bottom right one.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from d2lite.layers import cat
from d2lite.structures import BitMasks, Boxes, Instances


def point_sample(input: Tensor, point_coords: Tensor, **kwargs) -> Tensor:
    """Read a map at points, interpolating between its cells; zeros outside.

    Args:
        input: (N, C, H, W).
        point_coords: (N, P, 2) or (N, Hp, Wp, 2) of x and y in [0, 1].
        kwargs: arguments of `torch.nn.functional.grid_sample`. With `align_corners=False`, 0 and 1
            are the outer edges of the outer cells, as for the coordinates of boxes.
    Returns:
        (N, C, P) or (N, C, Hp, Wp).
    """
    is_list = point_coords.dim() == 3
    grid = point_coords[:, :, None] if is_list else point_coords  # (N, P, 1, 2) or (N, Hp, Wp, 2)
    output = F.grid_sample(input, 2.0 * grid - 1.0, **kwargs)
    return output.squeeze(3) if is_list else output


def generate_regular_grid_point_coords(R: int, side_size: int, device: torch.device) -> Tensor:
    """Return the centers of the cells of a regular grid, row by row.

    Args:
        R: number of boxes; all have the same grid.
        side_size: number of cells along each side.
    Returns:
        (R, side_size**2, 2).
    """
    centers = (torch.arange(side_size, dtype=torch.float32, device=device) + 0.5) / side_size
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    return torch.stack([x, y], dim=2).view(1, -1, 2).expand(R, -1, -1)


def get_uncertain_point_coords_with_randomness(
    coarse_logits: Tensor,
    uncertainty_func: Callable[[Tensor], Tensor],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> Tensor:
    """Draw points for training, more of them where the prediction is uncertain (sec. 3.1).

    Uncertainty is computed from the logits at the points, not read from a map of uncertainties:
    that would miss the boundary between two cells with certain but opposite predictions.

    Args:
        coarse_logits: (R, C, H, W).
        uncertainty_func: maps logits at points, (R, C, P), to (R, 1, P); larger is less certain.
        num_points: P.
        oversample_ratio: this many times more points are drawn, and the most uncertain are kept.
        importance_sample_ratio: share of the points, in [0, 1], that are chosen by uncertainty;
            the others are random.
    Returns:
        (R, P, 2).
    Raises:
        ValueError: a ratio is out of its range.
    """
    if oversample_ratio < 1:
        raise ValueError(f"OVERSAMPLE_RATIO is {oversample_ratio}; it must be at least 1")
    if not 0 <= importance_sample_ratio <= 1:
        raise ValueError(
            f"IMPORTANCE_SAMPLE_RATIO is {importance_sample_ratio}; it must be in [0, 1]"
        )
    num_boxes, device = len(coarse_logits), coarse_logits.device
    drawn = torch.rand(num_boxes, int(num_points * oversample_ratio), 2, device=device)
    uncertainty = uncertainty_func(point_sample(coarse_logits, drawn, align_corners=False))
    num_uncertain = int(importance_sample_ratio * num_points)
    chosen = uncertainty[:, 0].topk(num_uncertain, dim=1).indices  # (R, num_uncertain)
    uncertain = drawn.gather(1, chosen[:, :, None].expand(-1, -1, 2))
    if num_uncertain == num_points:
        return uncertain
    rest = torch.rand(num_boxes, num_points - num_uncertain, 2, device=device)
    return cat([uncertain, rest], dim=1)


def get_uncertain_point_coords_on_grid(
    uncertainty_map: Tensor, num_points: int
) -> tuple[Tensor, Tensor]:
    """Return the most uncertain cells of a map.

    Args:
        uncertainty_map: (R, 1, H, W); larger is less certain.
        num_points: P; fewer if the map has fewer cells.
    Returns:
        (R, P) indices into the H * W cells, and the (R, P, 2) centers of these cells.
    """
    height, width = uncertainty_map.shape[2:]
    num_points = min(height * width, num_points)
    indices = uncertainty_map[:, 0].flatten(1).topk(num_points, dim=1).indices
    x = (indices % width + 0.5) / width
    y = (indices.div(width, rounding_mode="floor") + 0.5) / height
    return indices, torch.stack([x, y], dim=2)


def subdivide(
    logits: Tensor,
    uncertainty_func: Callable[[Tensor], Tensor],
    num_points: int,
    predict: Callable[[Tensor], Tensor],
) -> Tensor:
    """Do one step of adaptive subdivision: double the size and predict uncertain cells again.

    Args:
        logits: (R, C, H, W).
        uncertainty_func: maps (R, C, 2H, 2W) logits to (R, 1, 2H, 2W).
        num_points: number of cells to predict.
        predict: maps (R, P, 2) points to (R, C, P) logits.
    Returns:
        (R, C, 2H, 2W) logits.
    """
    logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
    indices, point_coords = get_uncertain_point_coords_on_grid(uncertainty_func(logits), num_points)
    point_logits = predict(point_coords).to(logits.dtype)
    indices = indices[:, None].expand(-1, logits.shape[1], -1)  # (R, C, P)
    return logits.flatten(2).scatter(2, indices, point_logits).view_as(logits)


def point_sample_fine_grained_features(
    features_list: Sequence[Tensor],
    feature_scales: Sequence[float],
    boxes: Sequence[Boxes],
    point_coords: Tensor,
) -> tuple[Tensor, Tensor]:
    """Read features of images at points that are given relative to boxes.

    Args:
        features_list: per level, (N, C, Hi, Wi).
        feature_scales: per level, cells per pixel of the image: 1 / stride.
        boxes: boxes of each of the N images; R in total.
        point_coords: (R, P, 2).
    Returns:
        (R, sum of C over the levels, P) features, and the (R, P, 2) points in pixels of the image.
    """
    coords_in_image = get_point_coords_wrt_image(Boxes.cat(list(boxes)).tensor, point_coords)
    by_image = coords_in_image.split([len(x) for x in boxes])
    sampled = []
    for i, coords in enumerate(by_image):
        levels = []
        for features, scale in zip(features_list, feature_scales, strict=True):
            height, width = features.shape[2:]
            size = torch.tensor([width, height], device=coords.device) / scale
            # All boxes of the image as the rows of one grid.
            level = point_sample(features[i][None], (coords / size)[None], align_corners=False)
            levels.append(level[0].transpose(0, 1))  # (Ri, C, P)
        sampled.append(cat(levels, dim=1))
    return cat(sampled), coords_in_image


@torch.no_grad()
def get_point_coords_wrt_image(boxes_coords: Tensor, point_coords: Tensor) -> Tensor:
    """Convert points relative to boxes to pixels of the image.

    Args:
        boxes_coords: (R, 4) XYXY.
        point_coords: (R, P, 2).
    Returns:
        (R, P, 2) of x and y.
    """
    corner, opposite = boxes_coords[:, None, :2], boxes_coords[:, None, 2:]
    return point_coords * (opposite - corner) + corner


@torch.no_grad()
def sample_point_labels(instances: Sequence[Instances], point_coords: Tensor) -> Tensor:
    """Read the ground-truth masks at points.

    Args:
        instances: per image, with `gt_masks` as BitMasks; R in total.
        point_coords: (R, P, 2) of x and y in pixels of the image.
    Returns:
        (R, P) in [0, 1]; values between 0 and 1 are interpolated between pixels.
    Raises:
        ValueError: the masks are polygons.
    """
    labels = [point_coords.new_zeros(0, point_coords.shape[1])]
    for x, coords in zip(instances, point_coords.split([len(x) for x in instances]), strict=True):
        if len(x) == 0:  # may lack gt_masks
            continue
        if not isinstance(x.gt_masks, BitMasks):
            raise ValueError(
                f"PointRend trains on bit masks, not on {type(x.gt_masks).__name__}: "
                "set INPUT.MASK_FORMAT bitmask"
            )
        height, width = x.gt_masks.image_size
        masks = x.gt_masks.tensor[:, None].to(torch.float32)  # (Ri, 1, H, W)
        size = torch.tensor([width, height], device=coords.device)
        labels.append(point_sample(masks, coords / size, align_corners=False)[:, 0])
    return cat(labels)
