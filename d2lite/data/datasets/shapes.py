"""The embedded dataset `shapes_*`: pictures of six kinds of shapes, drawn when they are read.

Nothing is downloaded or stored: a picture is a function of its name, the same in every process
and on every machine. These names take the place of file names:

    shapes://train/12            the picture
    shapes://train/12/sem_seg    its semantic labels, an index into `stuff_classes`
    shapes://train/12/panoptic   its segment ids, coded in RGB as COCO panoptic files do

Boxes, polygons and keypoints describe the whole shape, even where another covers it; semantic
and panoptic labels describe only what can be seen. Keypoints are fixed in the shape's own frame,
which rotates with it: the middles of the upper and the lower side, the center, and the points
halfway from the center to the left and the right side.
"""

import cv2
import numpy as np

from d2lite.data.catalog import DatasetCatalog, MetadataCatalog
from d2lite.data.datasets.shapes_scene import (
    CLASSES,
    KEYPOINTS,
    SPLITS,
    TEXTURES,
    Scene,
    Shape,
    make_scene,
    texture_generator,
)
from d2lite.data.image_schemes import register_image_scheme
from d2lite.structures import BoxMode

STUFF_CLASSES = ("things", *TEXTURES)  # detectron2's convention: label 0 is any object
_SUPERSAMPLING = 4


def _parse(file_name: str) -> tuple[str, int, str]:
    """Return split, index and kind ("", "sem_seg" or "panoptic") of a `shapes://` name."""
    parts = file_name.removeprefix("shapes://").split("/")
    kind = parts[2] if len(parts) == 3 else ""
    known = len(parts) in (2, 3) and kind in ("", "sem_seg", "panoptic")
    if not (known and parts[0] in SPLITS and parts[1].isdecimal()):
        raise ValueError(
            f"{file_name}: expected shapes://SPLIT/INDEX, with /sem_seg or /panoptic for labels; "
            f"splits are {', '.join(SPLITS)}"
        )
    if int(parts[1]) >= SPLITS[parts[0]].length:
        length = SPLITS[parts[0]].length
        raise ValueError(f"{file_name}: split {parts[0]!r} has pictures 0 to {length - 1}")
    return parts[0], int(parts[1]), kind


def _read(file_name: str) -> np.ndarray:
    """Return the picture or the labels of a `shapes://` name, as an image reader."""
    draw = {"": draw_image, "sem_seg": draw_sem_seg, "panoptic": draw_panoptic}
    return draw[_parse(file_name)[2]](file_name)


def draw_image(file_name: str) -> np.ndarray:
    """Return the picture of a `shapes://SPLIT/INDEX` name, (H, W, 3) uint8 in RGB order.

    Raises:
        ValueError: the name is not that of a picture, or its index is outside of the split.
    """
    split, index, _ = _parse(file_name)
    scene = make_scene(split, index)
    generator = texture_generator(split, index)
    image = np.empty((scene.height, scene.width, 3), dtype=np.uint8)
    for region, where in zip(scene.regions, _region_masks(scene), strict=True):
        mix = _TEXTURE_MAKERS[region.texture](generator, scene.height, scene.width)
        cv2.copyTo(_colorize(mix, *region.colors), where.astype(np.uint8), image)
    for shape in scene.shapes:
        _paint(image, shape)
    grain = np.frombuffer(generator.bytes(image.size), dtype=np.int8).reshape(image.shape) >> 4
    return np.clip(image.astype(np.int16) + grain, 0, 255).astype(np.uint8)


def draw_sem_seg(file_name: str) -> np.ndarray:
    """Return (H, W) uint8 labels: 0 on shapes, else 1 + the index of the visible texture."""
    split, index, _ = _parse(file_name)
    return _segments(make_scene(split, index))[1]


def draw_panoptic(file_name: str) -> np.ndarray:
    """Return (H, W, 3) uint8 segment ids, r + 256 g + 256**2 b, as in `segments_info`."""
    split, index, _ = _parse(file_name)
    ids = _segments(make_scene(split, index))[0]
    return np.stack([ids, ids * 0, ids * 0], axis=2).astype(np.uint8)


def _colorize(mix: np.ndarray, low: tuple[int, ...], high: tuple[int, ...]) -> np.ndarray:
    """Convert an (H, W) uint8 mix to (H, W, 3) colors: 0 is `low`, and 255 is `high`."""
    steps = np.arange(256)[:, None]
    table = (np.array(low) * (255 - steps) + np.array(high) * steps) // 255  # (256, 3)
    return cv2.LUT(cv2.merge([mix, mix, mix]), table.astype(np.uint8)[None])


def _region_masks(scene: Scene) -> list[np.ndarray]:
    """Return (H, W) bool for each region: where it lies, covered parts included."""
    y, x = np.ogrid[: scene.height, : scene.width]
    return [
        np.broadcast_to(a * x + b * y >= c, (scene.height, scene.width))
        for a, b, c in (region.half_plane for region in scene.regions)
    ]


# Each texture is an (H, W) uint8 array with the share of the second color. It is computed with
# integers only, so that all machines round alike.


def _noise(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    cell = 6
    shape = height // cell + 2, width // cell + 2
    coarse = np.frombuffer(generator.bytes(shape[0] * shape[1]), dtype=np.uint8).reshape(shape)
    size = shape[1] * cell, shape[0] * cell
    fine = cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR_EXACT)
    return fine[:height, :width].copy()


def _gradient(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    ramp = _ramp(*_slope(generator), height, width)
    ramp -= ramp.min()
    return (ramp * 255 // max(int(ramp.max()), 1)).astype(np.uint8)


def _stripes(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    ramp = _ramp(*_slope(generator), height, width)
    return (ramp // _period(generator, 48, 96) % 2 * 255).astype(np.uint8)


def _checker(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    side = _period(generator, 6, 14)
    odd_row = np.arange(height)[:, None] // side % 2
    odd_column = np.arange(width) // side % 2
    return (odd_row != odd_column).astype(np.uint8) * 255


def _ramp(a: int, b: int, height: int, width: int) -> np.ndarray:
    """Return (H, W) int32 values of a * x + b * y."""
    x, y = np.arange(width, dtype=np.int32), np.arange(height, dtype=np.int32)
    return a * x + b * y[:, None]


def _slope(generator: np.random.Generator) -> tuple[int, int]:
    """Return a random direction with a length of about 8, so that stripes keep their width."""
    angle = generator.random() * 2 * np.pi
    return round(8 * float(np.cos(angle))), round(8 * float(np.sin(angle)))


def _period(generator: np.random.Generator, low: int, high: int) -> int:
    return low + int(generator.random() * (high - low))


_TEXTURE_MAKERS = (_noise, _gradient, _stripes, _checker)  # in the order of TEXTURES


def _cover(outline: np.ndarray) -> tuple[slice, slice, np.ndarray]:
    """Return rows, columns, and the share (0 to 255) of each pixel there that a polygon covers."""
    low = np.floor(outline.min(axis=0)).astype(int)
    high = np.ceil(outline.max(axis=0)).astype(int)
    width, height = (high - low).tolist()
    # The centers of the finer pixels are at halves; fillPoly expects them at whole numbers, and
    # takes coordinates with four fractional bits here.
    fine = (outline - low) * _SUPERSAMPLING - 0.5
    canvas = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), dtype=np.uint8)
    cv2.fillPoly(canvas, [np.rint(fine * 16).astype(np.int32)], 255, shift=4)
    share = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])), share


def _paint(image: np.ndarray, shape: Shape) -> None:
    """Draw a shape on a uint8 picture, darker toward its own bottom, which shows its rotation."""
    rows, columns, share = _cover(shape.outline)
    height, width = share.shape
    top, bottom = shape.place(np.array([(0.0, -1.0), (0.0, 1.0)])) - (columns.start, rows.start)
    axis = bottom - top
    a, b = np.rint(axis * (65536 / float(axis @ axis))).astype(int).tolist()
    start = a * round(float(top[0])) + b * round(float(top[1]))
    shade = np.clip((_ramp(a, b, height, width) - start) >> 8, 0, 255)  # 0 at the top
    dark = tuple(v * 9 // 16 for v in shape.color)
    painted = _colorize(shade.astype(np.uint8), shape.color, dark)
    patch = image[rows, columns]
    alpha = share[..., None].astype(np.uint16)  # 255 * 255 just fits
    patch[:] = (painted * alpha + patch * (255 - alpha) + 127) // 255


def _segments(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Return (H, W) segment ids and (H, W) semantic labels, uint8, of what can be seen.

    Ids: 1 + texture for backgrounds, 1 + number of textures + position for shapes.
    """
    ids = np.zeros((scene.height, scene.width), dtype=np.uint8)
    for region, where in zip(scene.regions, _region_masks(scene), strict=True):
        ids[where] = 1 + region.texture
    labels = ids.copy()
    for position, shape in enumerate(scene.shapes):
        rows, columns, share = _cover(shape.outline)
        ids[rows, columns][share >= 128] = 1 + len(TEXTURES) + position
        labels[rows, columns][share >= 128] = 0
    return ids, labels


def load_shapes(split: str) -> list[dict]:
    """Return dataset dicts with boxes, polygons and keypoints. `split` is a key of SPLITS.

    A keypoint's visibility is 2, or 1 where a later shape covers it.
    """
    records = []
    for index in range(SPLITS[split].length):
        scene = make_scene(split, index)
        annotations = [
            _instance(shape, scene.shapes[position + 1 :])
            for position, shape in enumerate(scene.shapes)
        ]
        records.append({**_picture(split, index, scene), "annotations": annotations})
    return records


def load_shapes_rotated(split: str) -> list[dict]:
    """Return dataset dicts with rotated boxes (XYWHA_ABS), the frames of the shapes."""
    records = []
    for index in range(SPLITS[split].length):
        scene = make_scene(split, index)
        annotations = [
            {
                "bbox": [*shape.center, *shape.size, shape.angle],
                "bbox_mode": BoxMode.XYWHA_ABS,
                "category_id": shape.category,
                "iscrowd": 0,
            }
            for shape in scene.shapes
        ]
        records.append({**_picture(split, index, scene), "annotations": annotations})
    return records


def load_shapes_sem_seg(split: str) -> list[dict]:
    """Return dataset dicts with `sem_seg_file_name` and no annotations."""
    records = [_picture(split, i, make_scene(split, i)) for i in range(SPLITS[split].length)]
    return [{**r, "sem_seg_file_name": f"{r['file_name']}/sem_seg"} for r in records]


def load_shapes_panoptic(split: str) -> list[dict]:
    """Return dicts with instances, semantic labels, `pan_seg_file_name` and `segments_info`.

    `category_id` in segments_info is an index into `thing_classes` if `isthing`, else into
    `stuff_classes`.
    """
    records = load_shapes(split)
    for index, record in enumerate(records):
        name = record["file_name"]
        record["sem_seg_file_name"] = f"{name}/sem_seg"
        record["pan_seg_file_name"] = f"{name}/panoptic"
        record["segments_info"] = _segments_info(make_scene(split, index))
    return records


def load_shapes_panoptic_standard(split: str) -> list[dict]:
    """Return dataset dicts with `pan_seg_file_name` and `segments_info`, with one list of classes.

    `category_id` is an index into `stuff_classes`: the things, then the textures.
    """
    records = []
    for index in range(SPLITS[split].length):
        scene = make_scene(split, index)
        segments = _segments_info(scene)
        for segment in segments:
            if not segment["isthing"]:  # textures are counted from 1 in the other form
                segment["category_id"] += len(CLASSES) - 1
        picture = _picture(split, index, scene)
        name = f"{picture['file_name']}/panoptic"
        records.append({**picture, "pan_seg_file_name": name, "segments_info": segments})
    return records


def _picture(split: str, index: int, scene: Scene) -> dict:
    return {
        "file_name": f"shapes://{split}/{index}",
        "image_id": index,
        "height": scene.height,
        "width": scene.width,
    }


def _instance(shape: Shape, later: tuple[Shape, ...]) -> dict:
    outlines = [other.outline.astype(np.float32) for other in later]
    keypoints = []
    for x, y in shape.keypoints().tolist():
        covered = any(cv2.pointPolygonTest(o[:, None], (x, y), False) > 0 for o in outlines)
        keypoints += [x, y, 1 if covered else 2]  # 1: labeled, but not visible
    return {
        "bbox": list(shape.box),
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": shape.category,
        "segmentation": [shape.outline.ravel().tolist()],
        "keypoints": keypoints,
        "iscrowd": 0,
    }


def _segments_info(scene: Scene) -> list[dict]:
    """Return one entry for each segment that can be seen."""
    seen, areas = np.unique(_segments(scene)[0], return_counts=True)
    first_thing = 1 + len(TEXTURES)
    infos = []
    for segment, area in zip(seen.tolist(), areas.tolist(), strict=True):
        isthing = segment >= first_thing
        # Segment 1 is texture 0, which is stuff class 1: class 0 stands for things.
        category = scene.shapes[segment - first_thing].category if isthing else segment
        infos.append(
            {
                "id": segment,
                "category_id": category,
                "isthing": isthing,
                "iscrowd": 0,
                "area": area,
            }
        )
    return infos


_THINGS = {
    "thing_classes": list(CLASSES),
    "thing_colors": [
        (220, 60, 60), (220, 200, 50), (80, 190, 70), (60, 200, 200), (70, 90, 220), (200, 70, 200)
    ],
}  # fmt: skip
_KEYPOINTS = {
    "keypoint_names": list(KEYPOINTS),
    "keypoint_flip_map": [("left", "right")],
    # For OKS: the points are exact, so one tolerance serves all. Being off by 12% of the square
    # root of a shape's area gives an OKS of a half; COCO's go from 6% (eyes) to 25% (hips).
    "keypoint_oks_sigmas": [0.05] * len(KEYPOINTS),
    "keypoint_connection_rules": [
        ("top", "centre", (255, 200, 60)),
        ("bottom", "centre", (60, 160, 255)),
        ("left", "centre", (90, 220, 90)),
        ("right", "centre", (240, 90, 180)),
    ],
}
_STUFF = {
    "stuff_classes": list(STUFF_CLASSES),
    "stuff_colors": [
        (130, 130, 130),
        (150, 110, 80),
        (110, 150, 180),
        (170, 160, 90),
        (90, 90, 90),
    ],
    "ignore_label": 255,
}
# Ids for panoptic results: things first, then textures; 0 is reserved.
_PANOPTIC_IDS = {
    "thing_dataset_id_to_contiguous_id": {i + 1: i for i in range(len(CLASSES))},
    "stuff_dataset_id_to_contiguous_id": {
        0: 0, **{len(CLASSES) + i: i for i in range(1, len(STUFF_CLASSES))}
    },
}  # fmt: skip
# In the standard form things are among the stuff classes too, as COCO's and Cityscapes' are.
_ALL_CLASSES = [*CLASSES, *TEXTURES]
_ALL_COLORS = [*_THINGS["thing_colors"], *_STUFF["stuff_colors"][1:]]
_STANDARD = {
    "thing_classes": _ALL_CLASSES,
    "thing_colors": _ALL_COLORS,
    "stuff_classes": _ALL_CLASSES,
    "stuff_colors": _ALL_COLORS,
    "thing_dataset_id_to_contiguous_id": {i + 1: i for i in range(len(CLASSES))},
    "stuff_dataset_id_to_contiguous_id": {i + 1: i for i in range(len(_ALL_CLASSES))},
    "ignore_label": 255,
    "label_divisor": 1000,
}

# Name before the split -> splits it has, loader, metadata.
_FAMILIES = {
    "shapes": ("", load_shapes, {**_THINGS, **_KEYPOINTS, "evaluator_type": "coco"}),
    "shapes_rotated": (
        "rotated_",
        load_shapes_rotated,
        {**_THINGS, "evaluator_type": "rotated_coco"},
    ),
    "shapes_sem_seg": ("", load_shapes_sem_seg, {**_STUFF, "evaluator_type": "sem_seg"}),
    "shapes_panoptic": (
        "",
        load_shapes_panoptic,
        {**_THINGS, **_STUFF, **_PANOPTIC_IDS, "evaluator_type": "coco_panoptic_seg"},
    ),
    "shapes_panoptic_standard": (
        "",
        load_shapes_panoptic_standard,
        {**_STANDARD, "evaluator_type": "coco_panoptic_seg"},
    ),
}


def register_all_shapes() -> None:
    """Register the families of datasets, each with a train and a val split."""
    register_image_scheme("shapes", _read)
    for family, (prefix, load, metadata) in _FAMILIES.items():
        for split in ("train", "val"):
            name = f"{family}_{split}"
            DatasetCatalog.register(name, lambda load=load, key=f"{prefix}{split}": load(key))
            MetadataCatalog.get(name).set(**metadata)
