"""YOLO: a text file per image, with boxes, outlines or keypoints as shares of the image size.

`data.yaml` names classes and splits. Without it, there must be a list of classes (`classes.txt`,
`obj.names`), as labelImg and darknet write it.
"""

import io
import os
import re
from typing import Any

import yaml

from d2lite.config.yaml_files import load_with_bases
from d2lite.data.image_io import read_image_size
from d2lite.data.layouts.files import Folder, split_of
from d2lite.data.layouts.labeled import ALL, SPLITS, LabeledImages, finish_records, relative_stem
from d2lite.data.layouts.outlines import join_polygons
from d2lite.data.layouts.writing import Destination, Holds, shown_number
from d2lite.structures import BoxMode
from d2lite.utils.errors import quoted, shortened
from d2lite.utils.file_io import read_text

HOLDS = Holds(masks="one", keypoints=True)
_CLASS_LISTS = ("classes.txt", "obj.names", "labels.txt")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ROW = re.compile(rf"\s*\d+(?:\.0*)?(?:\s+{_NUMBER}){{4,}}\s*")
MAX_KEYPOINTS = 1000
"""Limit per object; otherwise a damaged file could request any amount of memory."""
# Shares this far outside 0 to 1 are rounding errors; anything more is a mistake.
_SLACK = 0.01


def find_yolo(folder: Folder) -> bool:
    """Return whether there is a yaml file with class names, or text files with rows of numbers."""
    if _yaml_files(folder):
        return True
    if folder.only is not None:
        return False
    # The first text file named after an image decides.
    stems = {os.path.splitext(image.rpartition("/")[2])[0] for image in folder.images}
    for file in folder.files:
        stem, suffix = os.path.splitext(file.rpartition("/")[2])
        if suffix.lower() == ".txt" and stem in stems and (lines := folder.lines(file)):
            return _ROW.fullmatch(lines[0]) is not None
    return False


def _yaml_files(folder: Folder) -> list[str]:
    return [
        file
        for file in folder.candidates(".yaml", ".yml")
        if re.search(r"^['\"]?names['\"]?\s*:", read_text(folder.path(file)), re.MULTILINE)
    ]


def read_yolo(folder: Folder) -> LabeledImages:
    """Read YOLO's labels. Images without a text file have no objects.

    Raises:
        ValueError: there is no list of classes, or a row is malformed; with file and line.
    """
    yamls = _yaml_files(folder)
    if len(yamls) > 1:
        raise ValueError(
            f"{folder.root}: {yamls[0]} and {yamls[1]} both name classes; give the path of one"
        )
    settings: dict[str, Any] = {}
    source = folder.root
    if yamls:
        source = folder.path(yamls[0])
        settings = load_with_bases(source, lambda path: io.StringIO(read_text(path)))
    names = _class_names(settings.get("names"), source) if yamls else _listed_names(folder)
    data = LabeledImages("yolo", folder.root, names, {})
    points, data.keypoints = _keypoints(settings, source)
    labels: set[str] = set()
    for split, images in _images_by_split(folder, settings, source, data).items():
        records = []
        for image in images:
            label = _label_path(image)
            labels.add(label)
            height, width = read_image_size(image)
            rows = _read_rows(label, len(names), (height, width), points)
            records.append(
                {
                    "file_name": image,
                    "image_id": relative_stem(image, folder.root),
                    "height": height,
                    "width": width,
                    "annotations": rows,
                }
            )
        data.splits[split] = finish_records(
            records, source, lambda record, i: f"object number {i} of {record['file_name']}"
        )
    data.missing += _labels_without_image(folder, labels)
    return data


def _class_names(names: Any, source: str) -> list[str]:
    """Return the class names, given as a list or as a dict with keys 0, 1, ..."""
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError(
            f"{source}: 'names' is {quoted(names)}; expected a list of class names, or a map "
            "from 0, 1, ... to them"
        )
    return [str(name) for name in names]


def _listed_names(folder: Folder) -> list[str]:
    found = [
        file
        for file in folder.files
        if file.lower().rpartition("/")[2] in _CLASS_LISTS or file.lower().endswith(".names")
    ]
    if not found:
        raise ValueError(
            f"{folder.root}: YOLO labels without the names of their classes; add a data.yaml "
            "with 'names: [...]', or a classes.txt with one name per line"
        )
    return folder.lines(min(found, key=lambda file: file.count("/")))


def _keypoints(settings: dict, source: str) -> tuple[tuple[int, int] | None, dict[str, Any]]:
    """Return the number of keypoints with the values per keypoint (2 or 3), and their metadata."""
    shape = settings.get("kpt_shape")
    if shape is None:
        return None, {}
    if not (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(v) is int for v in shape)
        and 0 < shape[0] <= MAX_KEYPOINTS
        and shape[1] in (2, 3)
    ):
        raise ValueError(
            f"{source}: 'kpt_shape' is {quoted(shape)}; expected [number of keypoints, 2 or 3] "
            f"with at most {MAX_KEYPOINTS} keypoints, where 3 is x, y, visibility"
        )
    count = shape[0]
    names = settings.get("kpt_names")
    names = names.get(0) if isinstance(names, dict) else names
    if not isinstance(names, list) or len(names) != count:
        names = [f"keypoint_{number}" for number in range(count)]
    flips = settings.get("flip_idx", list(range(count)))
    numbers = isinstance(flips, list) and all(type(flip) is int for flip in flips)
    if not numbers or sorted(flips) != list(range(count)):
        raise ValueError(
            f"{source}: 'flip_idx' is {quoted(flips)}; expected each of 0 to {count - 1} once"
        )
    return (count, shape[1]), {
        "keypoint_names": [str(name) for name in names],
        "keypoint_flip_map": [
            (str(names[one]), str(names[other])) for one, other in enumerate(flips) if one < other
        ],
        "keypoint_connection_rules": [],
    }


def _images_by_split(
    folder: Folder, settings: dict, source: str, data: LabeledImages
) -> dict[str, list[str]]:
    """Return the paths of the images of each split: as data.yaml says, or else by folder."""
    entries = {split: settings.get(split) for split in SPLITS}
    if entries["val"] is None:
        entries["val"] = settings.get("valid")
    if not any(entries.values()):
        found: dict[str, list[str]] = {}
        for image in folder.images:
            split = split_of(image.rpartition("/")[0])
            found.setdefault(split, []).append(folder.path(image))
        return found
    base = str(settings.get("path") or "")
    found = {}
    for split, entry in entries.items():
        if not entry:
            continue
        parts = entry if isinstance(entry, list) else [entry]
        images = [_images_of(folder, str(part), base, source, data) for part in parts]
        if split == "test" and None in images:
            data.notes.append(f"{source}: 'test' is {quoted(entry)}, which does not exist")
            continue
        if None in images:
            raise FileNotFoundError(
                f"{source}: {split!r} is {quoted(entry)}, but that folder or list does not exist "
                f"below {folder.root}; correct it, relative to the yaml file"
            )
        found[split] = sorted({image for some in images for image in some})
    return found


def _images_of(
    folder: Folder, entry: str, base: str, source: str, data: LabeledImages
) -> list[str] | None:
    """Return the images of a folder, a list or one image; None if the path does not exist.

    Paths in these files are relative to "path" or the yaml file, or to a parent folder (as Roboflow
    writes them), or come from another machine.
    """
    here = os.path.dirname(source)
    entry = entry.replace("\\", "/")
    tails = [entry, re.sub(r"^(\.\./)+", "", entry)]
    tails += [entry[match.end() :] for match in re.finditer("/", entry)]
    places = [os.path.join(here, base), here, folder.root]
    tried = [os.path.join(place, tail) for tail in tails if tail for place in places]
    path = next((one for one in tried if os.path.exists(one)), None)
    if path is None:
        return None
    if os.path.isdir(path):
        below = Folder(path) if os.listdir(path) else None
        return [] if below is None else [below.path(image) for image in below.images]
    if not path.lower().endswith(".txt"):
        return [path]
    images = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            image = folder.find_image(line.strip(), os.path.relpath(path, folder.root))
            if image is None:
                data.missing.append(f"{line.strip()} ({path}, line {number})")
            else:
                images.append(image)
    return images


def _label_path(image: str) -> str:
    """Return the label file of an image: in `labels` for `images` (ultralytics), or next to it."""
    folder, name = os.path.split(image)
    stem = os.path.splitext(name)[0]
    parts = folder.replace(os.sep, "/").split("/")
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            path = "/".join([*parts, f"{stem}.txt"])
            if os.path.isfile(path) or not os.path.isfile(os.path.join(folder, f"{stem}.txt")):
                return path
            break
    return os.path.join(folder, f"{stem}.txt")


def _labels_without_image(folder: Folder, labels: set[str]) -> list[str]:
    """Describe the images missing for label files in the folders of labels."""
    known = {os.path.abspath(label) for label in labels}
    places = {os.path.dirname(label) for label in known}
    found = []
    for file in folder.files if folder.only is None else ():
        path = os.path.abspath(folder.path(file))
        if file.lower().endswith(".txt") and os.path.dirname(path) in places and path not in known:
            lines = folder.lines(file)
            if lines and _ROW.fullmatch(lines[0]):
                found.append(f"the image of {folder.path(file)}")
    return found


def _read_rows(
    path: str, classes: int, size: tuple[int, int], points: tuple[int, int] | None
) -> list[dict]:
    """Return the objects of a label file; none if there is no file."""
    if not os.path.isfile(path):
        return []
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                rows.append(_read_row(line.split(), classes, size, points))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    return rows


def _read_row(
    words: list[str], classes: int, size: tuple[int, int], points: tuple[int, int] | None
) -> dict:
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{quoted(' '.join(words))} has something that is not a number") from None
    if not values[0].is_integer() or not 0 <= values[0] < classes:
        raise ValueError(
            f"class {shortened(words[0])}; there are {classes}, numbered from 0 to {classes - 1}"
        )
    category, values = int(values[0]), values[1:]
    extra = points[0] * points[1] if points else 0
    if points and len(values) == 4 + extra:
        shares = values[:4] + [v for i, v in enumerate(values[4:]) if i % points[1] < 2]
    elif len(values) == 4 or (not points and len(values) >= 6 and len(values) % 2 == 0):
        shares = values
    else:
        wanted = f"or, with keypoints, {4 + extra}" if points else "or pairs of an outline"
        raise ValueError(
            f"{len(values)} numbers after the class; expected 4 (center x, center y, width, "
            f"height) {wanted}"
        )
    if not all(-_SLACK <= share <= 1 + _SLACK for share in shares):
        raise ValueError(
            f"{quoted(' '.join(words))} has a number that is not between 0 and 1; coordinates are "
            "shares of the image's width and height, so divide pixels by these"
        )
    height, width = size
    found: dict[str, Any] = {"category_id": category}
    if len(values) > 4 and not points:
        pairs = zip(values[::2], values[1::2], strict=True)
        found["segmentation"] = [[v for x, y in pairs for v in (x * width, y * height)]]
        return found
    x, y, w, h = (v * side for v, side in zip(values[:4], (width, height) * 2, strict=True))
    found["bbox"] = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    found["bbox_mode"] = BoxMode.XYXY_ABS
    if len(values) > 4:
        found["keypoints"] = []
        for i in range(4, len(values), points[1]):
            x, y, *rest = values[i : i + points[1]]
            seen = rest[0] if rest else 2.0 * any((x, y))  # a point at 0, 0 is not labeled
            found["keypoints"] += [x * width, y * height, seen]
    return found


def write_yolo(target: Destination) -> None:
    """Write `images/SPLIT/`, `labels/SPLIT/` and `data.yaml`."""
    data = target.data
    objects = [annotation for record in data.records() for annotation in record["annotations"]]
    has_points = bool(data.keypoints) and any("keypoints" in one for one in objects)
    for one in objects if has_points else ():  # a row has an outline, or a box and keypoints
        if one.pop("segmentation", None) is not None:
            target.losses["objects without their outlines"] += 1
    count = len(data.keypoints["keypoint_names"]) if has_points else 0
    for split, records in data.splits.items():
        for record in records:
            path = target.place_image(record, split, "images", split)
            size = (record["width"], record["height"])
            rows = [_row_of(annotation, size, count) for annotation in record["annotations"]]
            stem = path.rpartition("/")[2].rpartition(".")[0]
            target.write_text("".join(f"{row}\n" for row in rows), "labels", split, f"{stem}.txt")
    content: dict[str, Any] = {
        split: f"images/{split}" for split in data.splits if split != ALL
    } | {"names": dict(enumerate(data.class_names))}
    if has_points:
        names = data.keypoints["keypoint_names"]
        flips = dict(data.keypoints.get("keypoint_flip_map", ()))
        flips |= {b: a for a, b in flips.items()}
        content["kpt_shape"] = [len(names), 3]
        content["flip_idx"] = [names.index(flips.get(name, name)) for name in names]
        content["kpt_names"] = {i: list(names) for i in range(len(data.class_names))}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, default_flow_style=None)
    target.write_text(text, "data.yaml")


def _row_of(annotation: dict, size: tuple[int, int], keypoints: int) -> str:
    def share(value: float, side: int) -> str:
        return shown_number(min(max(value / side, 0.0), 1.0), 7)

    width, height = size
    words = [str(annotation["category_id"])]
    if "segmentation" in annotation:
        outline = join_polygons(annotation["segmentation"])
        words += [share(v, size[i % 2]) for i, v in enumerate(outline)]
        return " ".join(words)
    x0, y0, x1, y1 = annotation["bbox"]
    x0, x1 = min(max(x0, 0.0), width), min(max(x1, 0.0), width)
    y0, y1 = min(max(y0, 0.0), height), min(max(y1, 0.0), height)
    words += [share((x0 + x1) / 2, width), share((y0 + y1) / 2, height)]
    words += [share(x1 - x0, width), share(y1 - y0, height)]
    points = annotation.get("keypoints", [0] * 3 * keypoints) if keypoints else ()
    for x, y, seen in zip(points[::3], points[1::3], points[2::3], strict=True):
        words += [share(x, width), share(y, height), shown_number(seen)]
    return " ".join(words)
