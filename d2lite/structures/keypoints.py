"""`Keypoints`, their encoding as cells of a heat map, and the decoding of heat maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Decoding enlarges heat maps to the sizes of their boxes, with boxes of similar size together. This
# is how many enlarged values are held at a time: on a CPU as many as fit its cache, else 128 MB.
_MAX_DECODED_VALUES = {"cpu": 2**18}
_MAX_DECODED_VALUES_ELSEWHERE = 2**25


class Keypoints:
    """The keypoints of N objects, K each.

    Attributes:
        tensor: (N, K, 3) float32: x, y in absolute pixels, and visibility as in COCO: 0 is not
            labeled, 1 labeled but hidden, 2 labeled and visible.
    """

    def __init__(self, keypoints: Tensor | np.ndarray | Sequence[Sequence[Sequence[float]]]):
        """keypoints: (N, K, 3) values of any type that `torch.as_tensor` takes."""
        if isinstance(keypoints, list | tuple):
            keypoints = np.asarray(keypoints, dtype=np.float32)  # joins lists of arrays quickly
        keypoints = torch.as_tensor(keypoints, dtype=torch.float32)
        assert keypoints.dim() == 3 and keypoints.shape[2] == 3, (
            f"keypoints must have shape (N, K, 3), found {tuple(keypoints.shape)}"
        )
        self.tensor = keypoints

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def to(self, *args: Any, **kwargs: Any) -> "Keypoints":
        """Return a copy with `Tensor.to` applied to the tensor."""
        return type(self)(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def to_heatmap(self, boxes: Tensor, heatmap_size: int) -> tuple[Tensor, Tensor]:
        """Return the cell of each keypoint in a square heat map laid over its box.

        Args:
            boxes: (N, 4) XYXY, one per object.

        Returns:
            cells: (N, K) int64, y * heatmap_size + x; 0 where not valid.
            valid: (N, K) int64, 1 where the keypoint is labeled and lies in the box.
        """
        if boxes.numel() == 0:
            nothing = boxes.new_zeros((0, self.tensor.shape[1]), dtype=torch.int64)
            return nothing, nothing
        low, high = boxes[:, None, :2], boxes[:, None, 2:]  # (N, 1, 2)
        points = self.tensor[..., :2]
        cells = ((points - low) * (heatmap_size / (high - low))).floor().long()  # (N, K, 2)
        # A point on the right or bottom edge belongs to the last cell, not to one past it.
        cells = cells.masked_fill(points == high, heatmap_size - 1)
        inside = ((cells >= 0) & (cells < heatmap_size)).all(dim=2)
        valid = (inside & (self.tensor[..., 2] > 0)).long()
        return (cells[..., 1] * heatmap_size + cells[..., 0]) * valid, valid

    def __getitem__(self, item: int | slice | Tensor) -> "Keypoints":
        """Select by an index (giving one object), a slice, or a bool or integer tensor."""
        if isinstance(item, int):
            return Keypoints(self.tensor[item].unsqueeze(0))
        return Keypoints(self.tensor[item])

    def __repr__(self) -> str:
        return f"Keypoints(num_instances={len(self)})"

    @staticmethod
    def cat(keypoints_list: list["Keypoints"]) -> "Keypoints":
        """Concatenate the keypoints of a list, which must not be empty."""
        assert keypoints_list, "Keypoints.cat needs at least one Keypoints"
        assert all(isinstance(keypoints, Keypoints) for keypoints in keypoints_list), (
            "not a list of Keypoints"
        )
        return Keypoints(torch.cat([keypoints.tensor for keypoints in keypoints_list]))


@torch.no_grad()
def heatmaps_to_keypoints(maps: Tensor, rois: Tensor) -> Tensor:
    """Find the peaks of heat maps, enlarged bicubically to the sizes of their boxes.

    Args:
        maps: (N, K, S, S) logits.
        rois: (N, 4) XYXY.

    Returns:
        (N, K, 4): x, y in the image, the logit at the peak, and the probability of the peak under
        a softmax over the S * S cells.
    """
    maps, rois = maps.float(), rois.float()
    sides = (rois[:, 2:] - rois[:, :2]).clamp(min=1)  # (N, 2): w, h
    grid = sides.ceil()
    peaks = maps.new_empty(*maps.shape[:2], 3)
    for rows in _chunks_of_like_size(grid, maps.shape[1]):
        peaks[rows] = _peaks(maps[rows], grid[rows].long())
    xy, logit = peaks[..., :2], peaks[..., 2:]
    xy = (xy + 0.5) * (sides / grid)[:, None] + rois[:, None, :2]
    # exp(peak) over the sum of exp over the cells of the map as it is.
    probability = (logit - maps.flatten(2).logsumexp(dim=2, keepdim=True)).exp()
    return torch.cat((xy, logit, probability), dim=2)


def _chunks_of_like_size(grid: Tensor, num_keypoints: int) -> list[Tensor]:
    """Split N boxes of (width, height) into index tensors that stay within the memory limit."""
    order = grid.prod(dim=1).argsort()
    width, height = grid[order].cummax(dim=0).values.cpu().unbind(dim=1)
    limit = _MAX_DECODED_VALUES.get(grid.device.type, _MAX_DECODED_VALUES_ELSEWHERE)
    values = (width * height * num_keypoints).tolist()
    starts: list[int] = []
    for i, per_box in enumerate(values):
        if not starts or per_box * (i + 1 - starts[-1]) > limit:
            starts.append(i)
    return list(order.tensor_split(starts[1:])) if starts else []


def _peaks(maps: Tensor, grid: Tensor) -> Tensor:
    """Return (N, K, 3): column, row and value of the peaks of maps resized to (width, height)."""
    width, height = grid.unbind(dim=1)
    across = _bicubic_weights(width, maps.shape[3])  # (N, 1, W, S)
    down = _bicubic_weights(height, maps.shape[2])  # (N, 1, H, S)
    enlarged = down @ maps @ across.transpose(2, 3)  # (N, K, H, W)
    outside_x = torch.arange(across.shape[2], device=maps.device) >= width[:, None]
    outside_y = torch.arange(down.shape[2], device=maps.device) >= height[:, None]
    outside = outside_y[:, None, :, None] | outside_x[:, None, None, :]
    value, cell = enlarged.masked_fill_(outside, -torch.inf).flatten(2).max(dim=2)
    columns = across.shape[2]
    return torch.stack((cell % columns, cell // columns, value), dim=2)


def _bicubic_weights(sizes: Tensor, source_size: int) -> Tensor:
    """Return the weight of each source cell in each output cell.

    The kernel is cubic with a = -0.75, half-pixel centers and repeated borders, as in
    `F.interpolate(mode="bicubic", align_corners=False)`; resizing is a product with this matrix.

    Returns:
        (N, 1, max(sizes), source_size).
    """
    rows = torch.arange(int(sizes.max()), device=sizes.device)
    position = (rows + 0.5) * (source_size / sizes)[:, None] - 0.5  # (N, W)
    tap = torch.arange(-1, 3, device=sizes.device)
    source = position.floor()[..., None] + tap  # (N, W, 4)
    weights = _cubic((position[..., None] - source).abs())
    index = source.clamp(0, source_size - 1).long()
    matrix = weights.new_zeros(*position.shape, source_size)
    return matrix.scatter_add_(2, index, weights).unsqueeze(1)


def _cubic(distance: Tensor, a: float = -0.75) -> Tensor:
    """Return the kernel of cubic convolution (Keys 1981, eq. 4), for distances from 0 to 2."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return torch.where(distance <= 1, near, far)
