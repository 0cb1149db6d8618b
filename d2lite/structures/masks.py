"""Instance masks: as polygons, as bitmaps of the whole image, and as maps within boxes."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from torch import Tensor

from d2lite.layers.mask_ops import paste_masks_in_image
from d2lite.layers.roi_align import ROIAlign
from d2lite.structures.boxes import Boxes, select_rows
from d2lite.utils.memory import retry_if_cuda_oom

# Boxes thinner than this, in pixels, are treated as this wide when polygons are scaled to them.
_MIN_BOX_SIDE = 0.1


def polygon_area(x: np.ndarray, y: np.ndarray) -> float:
    """Return the area of the polygon with vertices (x[i], y[i]), by the shoelace formula."""
    return 0.5 * np.abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))


def polygons_to_bitmask(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Rasterize one object by COCO's rules.

    Args:
        polygons: the parts of the object, each (x0, y0, x1, y1, ...) in pixels.

    Returns:
        (height, width) bool: the union of the parts; all False if there are none.
    """
    return _rasterize([polygons], height, width)[0]


def _rasterize_in_boxes(
    objects: Sequence[Sequence[np.ndarray]], boxes: np.ndarray, mask_size: int
) -> np.ndarray:
    """Return (N, mask_size, mask_size) bool bitmaps of N objects, each within its own box.

    boxes: (N, 4) float32.
    """
    origin = boxes[:, :2].astype(np.float64)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], np.float32(_MIN_BOX_SIDE))
    scale = (np.float32(mask_size) / sides).astype(np.float64)  # (N, 2)
    moved = [
        [((np.reshape(part, (-1, 2)) - low) * factor).ravel() for part in parts]
        for parts, low, factor in zip(objects, origin, scale, strict=True)
    ]
    return _rasterize(moved, mask_size, mask_size)


def _rasterize(objects: Sequence[Sequence[np.ndarray]], height: int, width: int) -> np.ndarray:
    """Return (N, height, width) bool bitmaps of N objects; calls pycocotools once for all parts."""
    all_parts = list(itertools.chain.from_iterable(objects))
    if not all_parts:
        return np.zeros((len(objects), height, width), dtype=bool)
    part_codes = iter(mask_util.frPyObjects(all_parts, height, width))
    codes = []
    for parts in objects:
        own = list(itertools.islice(part_codes, len(parts)))
        if own:
            codes.append(own[0] if len(own) == 1 else mask_util.merge(own))
    bitmaps = mask_util.decode(codes).transpose(2, 0, 1).astype(bool)  # (those with parts, H, W)
    if len(codes) == len(objects):
        return np.ascontiguousarray(bitmaps)
    everyone = np.zeros((len(objects), height, width), dtype=bool)
    everyone[[len(parts) > 0 for parts in objects]] = bitmaps
    return everyone


class PolygonMasks:
    """N objects as polygons, always on the CPU.

    Attributes:
        polygons: for each object a list of parts, each a float64 array (x0, y0, x1, y1, ...) in
            absolute pixels.
    """

    def __init__(self, polygons: list[list[Tensor | np.ndarray | Sequence[float]]]):
        """polygons: for each object the list of its parts, each of at least three vertices.

        Raises:
            ValueError: the nesting is wrong, or a part is not a polygon.
        """
        if not isinstance(polygons, list):
            raise ValueError(
                f"PolygonMasks takes a list of objects, each a list of polygons; found a "
                f"{type(polygons).__name__}"
            )
        self.polygons: list[list[np.ndarray]] = []
        for parts in polygons:
            if not isinstance(parts, list):
                raise ValueError(
                    f"each object must be a list of polygons, found a {type(parts).__name__}; "
                    "put a single polygon into a list of its own"
                )
            arrays = [
                part.detach().cpu().numpy() if isinstance(part, Tensor) else part for part in parts
            ]
            arrays = [np.asarray(part, dtype=np.float64) for part in arrays]
            for array in arrays:
                if array.ndim != 1 or array.size % 2 or array.size < 6:
                    raise ValueError(
                        f"a polygon must be a flat list of at least 3 vertices (x0, y0, x1, y1, "
                        f"...), found shape {array.shape}"
                    )
            self.polygons.append(arrays)

    def to(self, *args: Any, **kwargs: Any) -> "PolygonMasks":
        """Return this object itself: polygons do not live on a device."""
        return self

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    def get_bounding_boxes(self) -> Boxes:
        """Return the tightest boxes around the vertices, with x1 and y1 not below 0.

        An object without parts has the box (inf, inf, 0, 0), which is empty.
        """
        boxes = torch.empty(len(self), 4)
        for row, parts in zip(boxes, self.polygons, strict=True):
            points = np.concatenate([np.empty((0, 2)), *(part.reshape(-1, 2) for part in parts)])
            row[:2] = torch.from_numpy(points.min(axis=0, initial=np.inf))
            row[2:] = torch.from_numpy(points.max(axis=0, initial=0))
        return Boxes(boxes)

    def nonempty(self) -> Tensor:
        """Return (N,) bool: whether an object has any part."""
        return torch.tensor([len(parts) > 0 for parts in self.polygons], dtype=torch.bool)

    def __getitem__(self, item: int | slice | list[int] | Tensor) -> "PolygonMasks":
        """Select by an index (giving one object), a slice, or a bool or integer tensor."""
        if isinstance(item, int):
            selected = [self.polygons[item]]
        elif isinstance(item, slice):
            selected = self.polygons[item]
        else:
            rows = torch.arange(len(self))[torch.as_tensor(item).cpu()]
            selected = [self.polygons[i] for i in rows.tolist()]
        return self._of(selected)

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """Iterate over the objects, as lists of their parts."""
        return iter(self.polygons)

    def __len__(self) -> int:
        return len(self.polygons)

    def __repr__(self) -> str:
        return f"PolygonMasks(num_instances={len(self)})"

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Rasterize each object within its box, as training targets of a mask head.

        Args:
            boxes: (N, 4) XYXY, one per object.

        Returns:
            (N, mask_size, mask_size) bool, on the device of `boxes`.
        """
        assert len(boxes) == len(self), f"{len(boxes)} boxes for {len(self)} masks"
        bitmaps = _rasterize_in_boxes(
            self.polygons, boxes.detach().float().cpu().numpy(), mask_size
        )
        return torch.from_numpy(bitmaps).to(boxes.device)

    def area(self) -> Tensor:
        """Return (N,) float64 areas in square pixels; where parts overlap, they count twice."""
        areas = [
            sum(polygon_area(part[0::2], part[1::2]) for part in parts) for parts in self.polygons
        ]
        return torch.tensor(areas, dtype=torch.float64)

    @staticmethod
    def cat(polymasks_list: list["PolygonMasks"]) -> "PolygonMasks":
        """Concatenate the masks of a list, which must not be empty."""
        assert polymasks_list, "PolygonMasks.cat needs at least one PolygonMasks"
        assert all(isinstance(masks, PolygonMasks) for masks in polymasks_list), (
            "not a list of PolygonMasks"
        )
        joined = itertools.chain.from_iterable(masks.polygons for masks in polymasks_list)
        return polymasks_list[0]._of(list(joined))

    def _of(self, polygons: list[list[np.ndarray]]) -> "PolygonMasks":
        """Return the same kind of object with polygons that need no checking."""
        masks = copy.copy(self)
        masks.polygons = polygons
        return masks


class BitMasks:
    """N objects as bitmaps of the whole image.

    Attributes:
        tensor: (N, H, W) bool.
        image_size: (H, W).
    """

    def __init__(self, tensor: Tensor | np.ndarray):
        """tensor: (N, H, W); nonzero pixels belong to the object."""
        tensor = torch.as_tensor(tensor).to(torch.bool)
        assert tensor.dim() == 3, f"bitmaps have shape (N, H, W), found {tuple(tensor.shape)}"
        self.image_size = tensor.shape[1:]
        self.tensor = tensor

    def to(self, *args: Any, **kwargs: Any) -> "BitMasks":
        """Return a copy with `Tensor.to` applied to the tensor."""
        return BitMasks(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def __getitem__(self, item: int | slice | Tensor) -> "BitMasks":
        """Select by an index (giving one object), a slice, or a bool or integer tensor."""
        return BitMasks(select_rows(self.tensor, item))

    def __iter__(self) -> Iterator[Tensor]:
        """Yield one (H, W) bitmap per object."""
        yield from self.tensor

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"BitMasks(num_instances={len(self)})"

    def nonempty(self) -> Tensor:
        """Return (N,) bool: whether an object has any pixel."""
        return self.tensor.flatten(1).any(dim=1)

    @staticmethod
    def from_polygon_masks(
        polygon_masks: PolygonMasks | list[list[np.ndarray]], height: int, width: int
    ) -> "BitMasks":
        """Rasterize polygons, given as PolygonMasks or as the list that it contains."""
        if isinstance(polygon_masks, PolygonMasks):
            polygon_masks = polygon_masks.polygons
        return BitMasks(torch.from_numpy(_rasterize(polygon_masks, height, width)))

    @staticmethod
    def from_roi_masks(roi_masks: "ROIMasks", height: int, width: int) -> "BitMasks":
        """Stretch masks over a whole image of this size: the box of each is the image."""
        image = roi_masks.tensor.new_tensor([0, 0, width, height])
        return roi_masks.to_bitmasks(Boxes(image.expand(len(roi_masks), 4)), height, width)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Cut each object out by its box and resize it, as training targets of a mask head.

        Args:
            boxes: (N, 4) XYXY, one per object.

        Returns:
            (N, mask_size, mask_size) bool, on the device of the masks.
        """
        assert len(boxes) == len(self), f"{len(boxes)} boxes for {len(self)} masks"
        boxes = boxes.to(self.device)
        image = torch.arange(len(boxes), dtype=boxes.dtype, device=boxes.device)[:, None]
        rois = torch.cat((image, boxes), dim=1)  # (N, 5)
        pool = ROIAlign((mask_size, mask_size), 1.0, 0, aligned=True)
        covered = pool(self.tensor[:, None].to(torch.float32), rois)  # (N, 1, M, M)
        return covered.squeeze(1) >= 0.5

    def get_bounding_boxes(self) -> Boxes:
        """Return the tightest boxes around the pixels; zeros for objects without any."""
        left, right = _extent(self.tensor.any(dim=1))
        top, bottom = _extent(self.tensor.any(dim=2))
        return Boxes(torch.stack((left, top, right, bottom), dim=1))

    @staticmethod
    def cat(bitmasks_list: list["BitMasks"]) -> "BitMasks":
        """Concatenate the masks of a list, which must not be empty."""
        assert bitmasks_list, "BitMasks.cat needs at least one BitMasks"
        assert all(isinstance(masks, BitMasks) for masks in bitmasks_list), "not a list of BitMasks"
        return BitMasks(torch.cat([masks.tensor for masks in bitmasks_list]))


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first occupied index and one past the last of each row of (N, S); 0, 0 if none."""
    if occupied.numel() == 0:
        nothing = occupied.new_zeros(len(occupied), dtype=torch.int64)
        return nothing, nothing
    present = occupied.any(dim=1)
    bits = occupied.to(torch.uint8)
    first = bits.argmax(dim=1)
    end = occupied.shape[1] - bits.flip(1).argmax(dim=1)
    return first * present, end * present


class ROIMasks:
    """N objects as square maps of foreground probability, each within its own box.

    Attributes:
        tensor: (N, M, M).
    """

    def __init__(self, tensor: Tensor):
        """tensor: (N, M, M) probabilities."""
        if tensor.dim() != 3:
            raise ValueError(f"ROIMasks takes shape (N, M, M), found {tuple(tensor.shape)}")
        self.tensor = tensor

    def to(self, device: torch.device) -> "ROIMasks":
        """Return the masks on `device`."""
        return ROIMasks(self.tensor.to(device))

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __getitem__(self, item: int | slice | Tensor) -> "ROIMasks":
        """Select by an index (giving one object), a slice, or a bool or integer tensor."""
        return ROIMasks(select_rows(self.tensor, item))

    def __repr__(self) -> str:
        return f"ROIMasks(num_instances={len(self)})"

    def to_bitmasks(
        self, boxes: Boxes | Tensor, height: int, width: int, threshold: float = 0.5
    ) -> BitMasks:
        """Paste the masks into an image of this size, on the CPU if the GPU runs out of memory.

        Args:
            boxes: N boxes, as Boxes or (N, 4) XYXY.
            threshold: probabilities at or above it are foreground.
        """
        boxes = boxes.tensor if isinstance(boxes, Boxes) else boxes
        paste = retry_if_cuda_oom(paste_masks_in_image)
        return BitMasks(paste(self.tensor, boxes, (height, width), threshold=threshold))
