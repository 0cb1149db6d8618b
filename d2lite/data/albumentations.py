"""Augmentations of the package albumentations, as INPUT.ALBUMENTATIONS lists them.

They see an image with all of its objects at once. Their random numbers follow from a seed that is
drawn from `np.random` for each image, which the loader seeds for each sample.
"""

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from d2lite.config.yaml_files import load_with_bases
from d2lite.data.mixing import Scene, region_mask, with_region
from d2lite.utils.errors import ArgumentError
from d2lite.utils.extras import import_extra
from d2lite.utils.file_io import read_text
from d2lite.utils.json_files import read_json
from d2lite.utils.registry import did_you_mean

KEY = "INPUT.ALBUMENTATIONS"


class Albumentations:
    """A pipeline of albumentations for images with boxes, masks, keypoints and labels.

    Keypoints are passed as pixel indices, which are 0.5 less than continuous coordinates. The boxes
    of objects with masks are computed from the changed masks.

    Attributes:
        moves: whether the pipeline moves pixels, rather than only changing their colors.
    """

    def __init__(
        self,
        augmentations: Sequence[Any],
        *,
        image_format: str,
        keypoint_hflip_indices: Sequence[int] | np.ndarray | None = None,
    ):
        """
        Args:
            augmentations: as in `INPUT.ALBUMENTATIONS`.
            image_format: "BGR" images are passed as RGB, which augmentations of colors expect.
            keypoint_hflip_indices: for each keypoint, the index of the one that takes its place in
                a mirror image.
        Raises:
            ImportError: the package is not installed.
            ValueError: a name or argument is unknown, or a file is not such a pipeline.
        """
        # Otherwise the package asks a server for its newest version whenever it is imported.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        package = import_extra("albumentations", "albumentations", KEY)
        parts = [_build(package, one) for one in augmentations]
        leaves = [leaf for part in parts for leaf in _leaves(part)]
        for leaf in leaves:
            if not isinstance(leaf, (package.ImageOnlyTransform, package.DualTransform)):
                raise ArgumentError(
                    f"{KEY}: {type(leaf).__name__} does not return an image; leave it out"
                )
        self.moves = not all(isinstance(leaf, package.ImageOnlyTransform) for leaf in leaves)
        self._moving = [
            type(leaf).__name__ for leaf in leaves if isinstance(leaf, package.DualTransform)
        ]
        self._is_bgr = image_format == "BGR"
        self._flip_indices = keypoint_hflip_indices
        targets = {}
        if self.moves:
            targets["bbox_params"] = package.BboxParams(
                "pascal_voc", label_fields=["box_numbers"], clip=True, filter_invalid_bboxes=True
            )
            targets["keypoint_params"] = package.KeypointParams(
                "xy", label_fields=["point_numbers"], remove_invisible=False
            )
        self._pipeline = package.Compose(parts, **targets)

    @classmethod
    def from_config(
        cls, cfg: Any, keypoint_hflip_indices: Sequence[int] | None
    ) -> "Albumentations | None":
        """Return the pipeline of a config; None if it has none.

        Raises:
            ValueError: the model needs data that the augmentations cannot move.
        """
        augmentations = cfg.INPUT.get("ALBUMENTATIONS", ())
        if not augmentations:
            return None
        built = cls(
            augmentations,
            image_format=cfg.INPUT.FORMAT,
            keypoint_hflip_indices=keypoint_hflip_indices,
        )
        if built.moves:
            reason = ""
            if cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon":
                reason = "needs masks as bitmaps: set INPUT.MASK_FORMAT bitmask"
            elif cfg.MODEL.LOAD_PROPOSALS:
                reason = "cannot move precomputed proposals: set MODEL.LOAD_PROPOSALS False"
            elif len(cfg.MODEL.RPN.BBOX_REG_WEIGHTS) == 5:
                reason = "cannot move rotated boxes: use augmentations of colors alone"
            if reason:
                raise ValueError(f"{KEY} has {built._moving[0]}, which {reason}")
        return built

    def __call__(
        self, scene: Scene, sem_seg: np.ndarray | None = None
    ) -> tuple[Scene, np.ndarray | None]:
        """Return the scene and the (H, W) labels after the augmentations.

        Objects that have left the image are dropped.

        Raises:
            TypeError: an augmentation changes the type of the image.
        """
        self._pipeline.set_random_seed(int(np.random.randint(2**31)))
        if not self.moves:
            result = self._pipeline(image=self._swapped(scene.image))
            return Scene(self._image(result, scene), scene.annotations), sem_seg
        objects = scene.annotations
        targets: dict[str, Any] = {}
        # OpenCV moves neither bool nor int64.
        masks = [
            region_mask(a, scene.size).astype(np.uint8) for a in objects if "segmentation" in a
        ]
        if masks:
            targets["masks"] = masks
        if sem_seg is not None:
            targets["mask"] = sem_seg.astype(np.float32)  # whole numbers up to 2**24 are exact
        points = [np.reshape(a["keypoints"], (-1, 3))[:, :2] for a in objects if "keypoints" in a]
        height, width = scene.size
        tracers = np.array([[0.5, 0.5], [0.6, 0.5], [0.5, 0.6]]) * (width, height)
        points = np.concatenate([tracers, *points]) - 0.5
        result = self._pipeline(
            image=self._swapped(scene.image),
            **targets,
            bboxes=np.array([a["bbox"] for a in objects], dtype=np.float64).reshape(-1, 4),
            box_numbers=list(range(len(objects))),
            keypoints=points,
            point_numbers=list(range(len(points))),
        )
        image = self._image(result, scene)
        points = np.asarray(result["keypoints"], dtype=np.float64) + 0.5
        along_x, along_y = points[1] - points[0], points[2] - points[0]
        is_mirrored = along_x[0] * along_y[1] - along_x[1] * along_y[0] < 0
        # Numbers of the objects that remain, which come back as floats.
        boxes = dict(zip(map(int, result["box_numbers"]), result["bboxes"], strict=True))
        masks, points = iter(result.get("masks", ())), points[len(tracers) :]
        moved = []
        for number, annotation in enumerate(objects):
            changed = dict(annotation)
            mask = next(masks) if "segmentation" in annotation else None
            if "keypoints" in annotation:
                count = np.size(annotation["keypoints"]) // 3
                own, points = points[:count], points[count:]
                changed["keypoints"] = self._keypoints(
                    annotation, own, image.shape[:2], is_mirrored
                )
            if mask is not None and mask.any():
                moved.append(with_region(changed, mask.astype(bool)))
            elif mask is None and number in boxes:
                changed["bbox"] = np.asarray(boxes[number], dtype=np.float64)[:4]
                moved.append(changed)
        if sem_seg is not None:
            sem_seg = result["mask"].astype(sem_seg.dtype)
        return Scene(image, moved), sem_seg

    def _image(self, result: dict[str, Any], scene: Scene) -> np.ndarray:
        image = result["image"]
        if image.dtype != scene.image.dtype:
            raise TypeError(
                f"{KEY}: the image was {scene.image.dtype} and became {image.dtype}; leave out "
                "what changes its type, such as Normalize: models normalize their images themselves"
            )
        return self._swapped(image)

    def _swapped(self, image: np.ndarray) -> np.ndarray:
        """Convert BGR to RGB or back; return other images unchanged."""
        is_color = image.ndim == 3 and image.shape[2] == 3
        return np.ascontiguousarray(image[:, :, ::-1]) if self._is_bgr and is_color else image

    def _keypoints(
        self, annotation: dict, xy: np.ndarray, size: tuple[int, int], is_mirrored: bool
    ) -> np.ndarray:
        """Return (K, 3) keypoints at their new places; those outside get visibility 0."""
        visibility = np.reshape(annotation["keypoints"], (-1, 3))[:, 2].astype(np.float64)
        inside = ((xy >= 0) & (xy <= size[::-1])).all(axis=1)
        keypoints = np.column_stack([xy, np.where(inside, visibility, 0)])
        if is_mirrored:
            if self._flip_indices is None:
                raise TypeError(
                    f"{KEY} mirrors images ({', '.join(self._moving)}), but the dataset has no "
                    "keypoint_flip_map: leave these augmentations out"
                )
            keypoints = keypoints[np.asarray(self._flip_indices)]
        keypoints[keypoints[:, 2] == 0] = 0
        return keypoints

    def __repr__(self) -> str:
        return f"Albumentations({list(self._pipeline.transforms)})"


def _build(package: ModuleType, one: Any) -> Any:
    """Build the augmentation given by a name, a name with arguments, or a file."""
    if isinstance(one, str) and one.endswith((".yaml", ".yml", ".json")):
        return _read(package, one)
    if isinstance(one, str):
        one = {one: {}}
    elif isinstance(one, (list, tuple)) and len(one) == 2:
        one = {one[0]: one[1]}
    if not isinstance(one, dict) or len(one) != 1:
        raise ArgumentError(
            f"{KEY} has {one!r}; expected a name such as 'Blur', a name with its arguments such as "
            "{'Blur': {'p': 0.2}}, or the path of a .yaml or .json file"
        )
    ((name, arguments),) = one.items()
    known = {
        key: value
        for key, value in vars(package).items()
        if isinstance(value, type)
        and issubclass(value, (package.ImageOnlyTransform, package.DualTransform))
    }
    if name not in known:
        raise ArgumentError(
            f"{KEY}: albumentations {package.__version__} has no augmentation {name!r}."
            f"{did_you_mean(str(name), known)} Groups such as OneOf need a file"
        )
    if not isinstance(arguments, dict):
        raise ArgumentError(f"{KEY}: {name} has {arguments!r}; expected arguments by name")
    with _complaints(name):
        return known[name](**arguments)


def _read(package: ModuleType, path: str) -> Any:
    """Read a pipeline that `albumentations.save` has written.

    Names in it are looked up among the augmentations of the package; nothing else is imported or
    run.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{KEY}: file not found: {path}")
    if path.endswith(".json"):
        content = read_json(path)
    else:
        content = load_with_bases(path, lambda name: io.StringIO(read_text(name)))
    if not isinstance(content, dict) or "transform" not in content:
        raise ArgumentError(
            f"{KEY}: {path} is not a pipeline that albumentations.save has written: it has no "
            "'transform'"
        )
    with _complaints(path):
        found = package.from_dict(content)
    # Only the outermost pipeline has parameters of boxes and keypoints.
    return (
        package.Sequential(found.transforms, p=found.p)
        if isinstance(found, package.Compose)
        else found
    )


class _complaints(warnings.catch_warnings):
    """Context that turns the package's complaints about arguments into an ArgumentError."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("error", r"Argument\(s\)", UserWarning)

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        super().__exit__(kind, error, traceback)
        if isinstance(error, (KeyError, TypeError, UserWarning, ValueError)):
            text = " ".join(str(error).split())
            raise ArgumentError(f"{KEY}: {self._where}: {text}") from None


def _leaves(part: Any) -> Iterator[Any]:
    if hasattr(part, "transforms"):
        for inner in part.transforms:
            yield from _leaves(inner)
    else:
        yield part
