"""Training images composed of several images: mosaic, mixup and copy-paste.

Images are mixed as they are read, before all other augmentations, and the result has the size of
the first one, so that resizing, cropping and grouping work as for a single image. The other images
are drawn at random from the dataset, with the random numbers of the sample, so that a sample
depends only on the seed and its position.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import shapely
from fvcore.transforms.transform import Transform
from shapely.geometry.base import BaseGeometry

from d2lite.data.common import Others
from d2lite.data.detection_utils import get_bbox, transform_instance_annotations
from d2lite.data.transforms import CropTransform, NoOpTransform, PadTransform, ResizeTransform
from d2lite.structures import BoxMode
from d2lite.structures.masks import polygons_to_bitmask
from d2lite.utils.errors import ArgumentError

# Gray value of the pixels of a mosaic that no image covers, as in YOLOv4 and its successors.
FILL = 114


class Scene(NamedTuple):
    """An image with its objects.

    Annotations have "bbox" as float64 XYXY, clipped to the image; "segmentation", where they have
    one, is a list of flat float64 polygons or an (H, W) uint8 mask.
    """

    image: np.ndarray  # (H, W) or (H, W, C)
    annotations: list[dict]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.image.shape[:2]

    @classmethod
    def read(cls, image: np.ndarray, annotations: Sequence[dict]) -> "Scene":
        """Make a scene of an image and its dataset dict's annotations; crowds are left out."""
        objects = []
        for annotation in annotations:
            if annotation.get("iscrowd", 0):
                continue
            # As floats, because the transforms round the coordinates of integer arrays.
            box = np.array(get_bbox(annotation), dtype=np.float64)
            changed = {**annotation, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS}
            changed.pop("area", None)
            if isinstance(segmentation := annotation.get("segmentation"), (list, tuple)):
                changed["segmentation"] = [np.array(p, dtype=np.float64) for p in segmentation]
            objects.append(changed)
        return cls(image, objects).changed(NoOpTransform())  # decodes masks, clips boxes

    def changed(self, transform: Transform) -> "Scene":
        """Return image and objects after a transform; any transform except mirroring is allowed."""
        image = transform.apply_image(self.image)
        return Scene(
            image,
            [
                transform_instance_annotations(dict(annotation), transform, image.shape[:2])
                for annotation in self.annotations
            ],
        )

    def resized(self, factor: float) -> "Scene":
        """Return the scene at another scale; its sides have at least one pixel."""
        height, width = (max(1, round(side * factor)) for side in self.size)
        return self.changed(ResizeTransform(*self.size, height, width))

    def cropped(self, x: int, y: int, width: int, height: int, min_visible: float) -> "Scene":
        """Return a part of the scene, in pixels.

        Args:
            min_visible: objects are left out if less than this share of their area is visible.
        """
        # Polygons are cut here: CropTransform would fill the holes of rings.
        is_polygons = [isinstance(a.get("segmentation"), list) for a in self.annotations]
        others = [
            {**a, "segmentation": []} if polygons else a
            for a, polygons in zip(self.annotations, is_polygons, strict=True)
        ]
        part = Scene(self.image, others).changed(CropTransform(x, y, width, height))
        window = shapely.box(0, 0, width, height)
        kept = []
        for before, after, polygons in zip(
            self.annotations, part.annotations, is_polygons, strict=True
        ):
            if polygons:
                shift = np.array([x, y])
                moved = [(p.reshape(-1, 2) - shift).reshape(-1) for p in before["segmentation"]]
                after["segmentation"] = moved
                whole = _geometry(after)
                region: Any = whole.intersection(window)
                area, visible = whole.area, region.area
            else:
                region = after.get("segmentation")
                area, visible = _area(before), _area(after)
            if visible <= 0 or visible < min_visible * area:
                continue
            if region is not None and not np.isclose(visible, area):
                after = with_region(after, region)
            kept.append(after)
        return Scene(part.image, kept)

    def padded(self, x: int, y: int, size: tuple[int, int]) -> "Scene":
        """Return an empty scene of `size` (H, W) with this one placed at (x, y), its top left."""
        height, width = self.size
        right, bottom = size[1] - x - width, size[0] - y - height
        return self.changed(PadTransform(x, y, right, bottom, width, height))

    def scale_to_fit(self, size: tuple[int, int]) -> float:
        """Return the factor at which it just fits into (H, W)."""
        return min(size[0] / self.size[0], size[1] / self.size[1])


class Mosaic:
    """Four images around a point (YOLOv4, arXiv:2004.10934, sec. 3.4).

    The point is drawn from the middle half of each side. Each image is scaled to fit into the
    mosaic, times a random factor, placed with a corner at the point, and cropped to its quarter.
    """

    num_others = 3

    def __init__(self, scale: tuple[float, float], min_visible: float):
        """
        Args:
            scale: (minimum, maximum) of the random factor.
            min_visible: objects are left out if the crop leaves less than this share of their area.
        """
        self.scale = scale
        self.min_visible = min_visible

    def __call__(self, scene: Scene, others: Sequence[Scene]) -> Scene:
        """Return the four as one scene of the size of the first."""
        height, width = scene.size
        center_x = round(width * np.random.uniform(0.25, 0.75))
        center_y = round(height * np.random.uniform(0.25, 0.75))
        scenes = [scene, *others]
        image = np.full_like(scene.image, FILL)
        annotations: list[dict] = []
        for quarter, index in enumerate(np.random.permutation(len(scenes))):
            is_right, is_lower = quarter % 2 == 1, quarter >= 2
            factor = scenes[index].scale_to_fit(scene.size) * np.random.uniform(*self.scale)
            part = scenes[index].resized(factor)
            part_height, part_width = part.size
            shown_width = min(part_width, width - center_x if is_right else center_x)
            shown_height = min(part_height, height - center_y if is_lower else center_y)
            if shown_width == 0 or shown_height == 0:  # of images that are a few pixels wide
                continue
            part = part.cropped(
                0 if is_right else part_width - shown_width,
                0 if is_lower else part_height - shown_height,
                shown_width,
                shown_height,
                self.min_visible,
            )
            x = center_x if is_right else center_x - shown_width
            y = center_y if is_lower else center_y - shown_height
            image[y : y + shown_height, x : x + shown_width] = part.image
            annotations += part.padded(x, y, scene.size).annotations
        return Scene(image, annotations)


class MixUp:
    """A weighted mean of two images, with the objects of both (arXiv:1902.04103, sec. 3.1).

    The weight is drawn from Beta(alpha, alpha). The second image is scaled to fit into the first,
    at a random place; pixels that it does not cover keep their values. All objects count equally
    in the losses, so `alpha` should be large, which gives weights near 0.5.
    """

    num_others = 1

    def __init__(self, alpha: float):
        """alpha: parameter of the Beta distribution, above 0."""
        self.alpha = alpha

    def __call__(self, scene: Scene, others: Sequence[Scene]) -> Scene:
        """Return the two as one scene of the size of the first."""
        other, x, y = _placed(others[0], 1.0, scene.size)
        weight = np.random.beta(self.alpha, self.alpha)
        image = scene.image.copy()
        covered = image[y : y + other.size[0], x : x + other.size[1]]
        mean = weight * covered.astype(np.float32) + (1 - weight) * other.image
        covered[:] = np.rint(mean) if image.dtype.kind in "ui" else mean
        annotations = other.padded(x, y, scene.size).annotations
        return Scene(image, scene.annotations + annotations)


class CopyPaste:
    """Objects of another image, pasted into this one (arXiv:2012.07177).

    A random number of random objects is pasted, cut out by their masks, or by their boxes if they
    have no masks. The masks and boxes of objects that they cover are reduced to what remains
    visible; covered keypoints are labeled as not visible. Objects of the other image that can be
    seen within the pasted regions, since they overlap them, are added as well.
    """

    num_others = 1

    def __init__(self, scale: tuple[float, float], min_visible: float):
        """
        Args:
            scale: (minimum, maximum) of a random factor on the scale at which the other image just
                fits into this one; at most 1.
            min_visible: objects are left out if less than this share of their area stays visible.
        """
        self.scale = scale
        self.min_visible = min_visible

    def __call__(self, scene: Scene, others: Sequence[Scene]) -> Scene:
        """Return the scene with objects of the other one."""
        factor = np.random.uniform(*self.scale)
        small, x, y = _placed(others[0], factor, scene.size)
        other = small.padded(x, y, scene.size)
        if not other.annotations:
            return scene
        size = scene.size
        both = scene.annotations + other.annotations
        as_mask = any(isinstance(a.get("segmentation"), np.ndarray) for a in both)
        regions = [region_mask(a, size) if as_mask else _geometry(a) for a in both]
        below, above = regions[: len(scene.annotations)], regions[len(scene.annotations) :]
        number = np.random.randint(1, len(above) + 1)
        chosen = np.random.permutation(len(above))[:number]
        union = np.logical_or.reduce if as_mask else shapely.union_all
        pasted: Any = union([above[index] for index in chosen])
        if _region_area(pasted) == 0:
            return scene
        image = scene.image.copy()
        mask = pasted if as_mask else polygons_to_bitmask(_polygons(pasted), *size)
        image[mask] = other.image[mask]
        annotations = []
        for annotation, region in zip(scene.annotations, below, strict=True):
            remaining = region & ~pasted if as_mask else region.difference(pasted)
            if (kept := self._cut(annotation, region, remaining)) is not None:
                annotations.append(_cover_keypoints(kept, mask))
        for index, (annotation, region) in enumerate(zip(other.annotations, above, strict=True)):
            shown = region & pasted if as_mask else region.intersection(pasted)
            kept = annotation if index in chosen else self._cut(annotation, region, shown)
            if kept is not None:
                annotations.append(kept)
        return Scene(image, annotations)

    def _cut(self, annotation: dict, before: Any, after: Any) -> dict | None:
        area, visible = _region_area(before), _region_area(after)
        if visible == 0 or visible < self.min_visible * area:
            return None
        # Areas of polygons that nothing was cut from differ by rounding.
        return annotation if np.isclose(area, visible) else with_region(annotation, after)


class Mixing:
    """Mixing of training images: each kind is applied with its probability, in order."""

    def __init__(self, kinds: Sequence[tuple[Callable, float]], until: float):
        """
        Args:
            kinds: a Mosaic, MixUp or CopyPaste, each with its probability in [0, 1].
            until: the first iteration in which images are no longer mixed.
        """
        self.kinds = list(kinds)
        self.until = until

    def __repr__(self) -> str:
        kinds = ", ".join(f"{type(kind).__name__} {prob:g}" for kind, prob in self.kinds)
        return f"Mixing({kinds}; until iteration {self.until:g})"

    @classmethod
    def from_config(cls, cfg: Any) -> "Mixing | None":
        """Return the mixing that INPUT.MIX describes; None if it is off.

        Raises:
            ValueError: a value is out of range, or the model needs data that cannot be mixed.
        """
        mix = cfg.INPUT.get("MIX")
        keys = mixing_keys(cfg)
        if not keys:
            return None
        _check(mix)
        if cfg.MODEL.LOAD_PROPOSALS or len(cfg.MODEL.RPN.BBOX_REG_WEIGHTS) == 5:
            unsupported = "precomputed proposals (MODEL.LOAD_PROPOSALS)"
            if not cfg.MODEL.LOAD_PROPOSALS:
                unsupported = "rotated boxes (MODEL.RPN.BBOX_REG_WEIGHTS of five)"
            raise ValueError(f"INPUT.MIX cannot mix {unsupported}; set {keys[0]} 0.0")
        sampler, ratio = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.RANDOM_SUBSET_RATIO
        if sampler == "RandomSubsetTrainingSampler" and ratio < 1:
            raise ValueError(
                "INPUT.MIX takes images from the whole dataset, but DATALOADER.RANDOM_SUBSET_RATIO "
                f"is {ratio}; set {keys[0]} 0.0, or train on a dataset that is the subset"
            )
        kinds = [
            (Mosaic(tuple(mix.MOSAIC_SCALE), mix.MIN_VISIBLE), mix.MOSAIC_PROB),
            (MixUp(mix.MIXUP_ALPHA), mix.MIXUP_PROB),
            (CopyPaste(tuple(mix.COPY_PASTE_SCALE), mix.MIN_VISIBLE), mix.COPY_PASTE_PROB),
        ]
        until = mix.UNTIL * cfg.SOLVER.MAX_ITER
        return cls([(kind, prob) for kind, prob in kinds if prob > 0], until)

    def __call__(self, scene: Scene, others: Others, read: Callable[[dict], Scene]) -> Scene:
        """Mix a scene with random others of the dataset, which `read` makes of their dicts."""
        for kind, prob in self.kinds:
            if others.iteration < self.until and np.random.uniform() < prob:
                indices = np.random.randint(len(others.dataset), size=kind.num_others)
                scene = kind(scene, [read(others.dataset[index]) for index in indices.tolist()])
        return scene


def mixing_keys(cfg: Any) -> list[str]:
    """Return the keys of INPUT.MIX that mix images in training, in order; [] if it is off."""
    mix = cfg.INPUT.get("MIX", {})
    names = ("MOSAIC_PROB", "MIXUP_PROB", "COPY_PASTE_PROB")
    return [f"INPUT.MIX.{name}" for name in names if mix.get(name, 0) != 0]


def without_mixing(cfg: Any) -> Any:
    """Return a copy of a config, not frozen, in which images are not mixed."""
    cfg = cfg.clone()
    cfg.defrost()
    for key in mixing_keys(cfg):
        cfg.merge_from_list([key, 0.0])
    return cfg


def _check(mix: Any) -> None:
    for name in ("MOSAIC_PROB", "MIXUP_PROB", "COPY_PASTE_PROB", "MIN_VISIBLE", "UNTIL"):
        if not 0 <= mix[name] <= 1:
            raise ArgumentError(f"INPUT.MIX.{name} is {mix[name]}; it must be in [0, 1]")
    if not mix.MIXUP_ALPHA > 0:
        raise ArgumentError(f"INPUT.MIX.MIXUP_ALPHA is {mix.MIXUP_ALPHA}; it must be above 0")
    for name, highest in (("MOSAIC_SCALE", np.inf), ("COPY_PASTE_SCALE", 1)):
        scale = tuple(mix[name])
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= highest:
            limit = ", at most 1" if highest == 1 else ""
            raise ArgumentError(
                f"INPUT.MIX.{name} is {scale}; expected the minimum and the maximum factor, both "
                f"above 0{limit}"
            )


def _placed(scene: Scene, factor: float, size: tuple[int, int]) -> tuple[Scene, int, int]:
    """Scale a scene to `factor` times the size that just fits into `size` (H, W).

    Returns:
        the scaled scene, and x and y of a random place for its top left corner.
    """
    scene = scene.resized(min(factor, 1.0) * scene.scale_to_fit(size))
    y, x = (
        np.random.randint(whole - part + 1) for whole, part in zip(size, scene.size, strict=True)
    )
    return scene, x, y


# Regions of objects: shapely geometries, or (H, W) bool masks if any of the objects has a mask.


def region_mask(annotation: dict, size: tuple[int, int]) -> np.ndarray:
    """Return (H, W) bool: the mask of an object, or its box if it has no mask."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, np.ndarray):
        return segmentation.astype(bool)
    return polygons_to_bitmask(_outlines(annotation), *size)


def _geometry(annotation: dict) -> BaseGeometry:
    """Return the region of an object that has polygons or only a box, as a shapely geometry."""
    rings = [polygon.reshape(-1, 2) for polygon in _outlines(annotation)]
    # Outlines may cross themselves; buffer(0) drops the lines and points that the repair leaves.
    parts = [shapely.make_valid(shapely.Polygon(ring)).buffer(0) for ring in rings]
    return shapely.union_all(parts)


def _outlines(annotation: dict) -> list[np.ndarray]:
    if "segmentation" in annotation:
        return annotation["segmentation"]
    x0, y0, x1, y1 = annotation["bbox"]
    return [np.array([x0, y0, x1, y0, x1, y1, x0, y1])]


def _region_area(region: Any) -> float:
    return float(region.sum()) if isinstance(region, np.ndarray) else region.area


def _area(annotation: dict) -> float:
    """Return the area of an object with a mask or only a box."""
    if "segmentation" in annotation:
        return float(annotation["segmentation"].sum())
    x0, y0, x1, y1 = annotation["bbox"]
    return (x1 - x0) * (y1 - y0)


def with_region(annotation: dict, region: np.ndarray | BaseGeometry) -> dict:
    """Return an annotation with another region, which must not be empty, and the box around it."""
    changed = dict(annotation)
    if isinstance(region, np.ndarray):
        rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        segmentation: Any = region.astype(np.uint8)
    else:
        segmentation = _polygons(region)
        points = np.concatenate([polygon.reshape(-1, 2) for polygon in segmentation])
        box = *points.min(axis=0), *points.max(axis=0)
    changed["bbox"] = np.array(box, dtype=np.float64)
    if "segmentation" in annotation:
        changed["segmentation"] = segmentation
    return changed


def _polygons(region: BaseGeometry) -> list[np.ndarray]:
    """Return flat polygons that add up to a region; a region with holes is split into parts."""
    polygons = []
    for part in shapely.get_parts(region):
        if part.geom_type in ("MultiPolygon", "GeometryCollection"):
            polygons += _polygons(part)
        elif part.geom_type != "Polygon":
            continue  # lines and points have no area
        elif part.interiors:
            x0, y0, x1, y1 = part.bounds
            middle = part.interiors[0].centroid.x
            for left, right in ((x0, middle), (middle, x1)):
                polygons += _polygons(part.intersection(shapely.box(left, y0, right, y1)))
        elif part.area > 0:
            polygons.append(np.asarray(part.exterior.coords)[:-1].reshape(-1))
    return polygons


def _cover_keypoints(annotation: dict, mask: np.ndarray) -> dict:
    """Mark visible keypoints (COCO's 2) below a mask as not visible (1)."""
    if "keypoints" not in annotation:
        return annotation
    keypoints = np.array(annotation["keypoints"], dtype=np.float64).reshape(-1, 3)
    x, y = np.floor(keypoints[:, :2]).astype(int).T
    covered = mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)]
    keypoints[covered & (keypoints[:, 2] == 2), 2] = 1
    return {**annotation, "keypoints": keypoints}
