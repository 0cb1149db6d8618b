"""Faults of COCO files, and what training reports for each before its first iteration.

`docs/data_problems.md` is made from these tables: `python -m tests.data_problems` writes it, and
`test_data_problems.py` tries every row.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs" / "data_problems.md"
SIZE = (48, 64)  # height, width
BOX = [8, 8, 20, 24]
POLYGON = [8, 8, 28, 8, 28, 32, 8, 32]
ERROR, LEFT_OUT, TAKEN = "an error", "left out, with a warning", "accepted"


class Problem(NamedTuple):
    """One row: a good file is spoiled by `spoil`, and what comes of it contains `says`."""

    title: str
    outcome: str
    says: str  # a regular expression: of the error, of the warning, or "" where nothing is said
    spoil: Callable[[dict], object]
    needs: str = "boxes"  # or "masks", "bitmasks", "keypoints": what the model learns
    why: str = ""


def good_file(size: int = 4) -> dict:
    """Contents of a file with boxes, masks and keypoints, all of them good."""
    images = [
        {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]}
        for i in range(1, size + 1)
    ]
    annotations = [
        {
            "id": 10 + i,
            "image_id": i,
            "category_id": i % 2 + 1,
            "bbox": list(BOX),
            "area": 480,
            "iscrowd": 0,
            "segmentation": [list(POLYGON)],
            "keypoints": [10, 10, 2, 20, 20, 1, 0, 0, 0],
            "num_keypoints": 2,
        }
        for i in range(1, size + 1)
    ]
    points = ["nose", "left_ear", "right_ear"]
    categories = [
        {"id": 1, "name": "cat", "keypoints": points},
        {"id": 2, "name": "dog", "keypoints": points},
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_images(folder: Path) -> None:
    """The images of the good file."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(1, 5):
        pixels = np.random.default_rng(i).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


def annotation(**changes) -> Callable[[dict], None]:
    """Change the first annotation; ... removes a key."""

    def spoil(data: dict) -> None:
        _change(data["annotations"][0], changes)

    return spoil


def image(**changes) -> Callable[[dict], None]:
    """Change the first image; ... removes a key."""

    def spoil(data: dict) -> None:
        _change(data["images"][0], changes)

    return spoil


def _change(row: dict, changes: dict) -> None:
    for key, value in changes.items():
        if value is ...:
            row.pop(key)
        else:
            row[key] = value


def every_annotation(**changes) -> Callable[[dict], None]:
    """The same for all annotations; a function makes the value from the position."""

    def spoil(data: dict) -> None:
        for i, row in enumerate(data["annotations"]):
            _change(row, {k: v(i) if callable(v) else v for k, v in changes.items()})

    return spoil


def rle(height: int = SIZE[0], width: int = SIZE[1], **changes) -> dict:
    """A compressed RLE of an image of this size."""
    mask = np.zeros((height, width), np.uint8)
    mask[8:32, 8:28] = 1
    encoded = mask_util.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode(), **changes}


def all_rle(first: dict) -> Callable[[dict], None]:
    """Every mask as RLE, the first as given."""

    def spoil(data: dict) -> None:
        for row in data["annotations"]:
            row["segmentation"] = rle()
        data["annotations"][0]["segmentation"] = first

    return spoil


def as_text(change: Callable[[str], str | bytes]) -> Callable[[dict], str | bytes]:
    """Change the text of the file."""
    return lambda data: change(json.dumps(data, ensure_ascii=False))


def _named(name: str) -> Callable[[dict], None]:
    def spoil(data: dict) -> None:
        data["categories"][0]["name"] = name

    return spoil


def _add(**row) -> Callable[[dict], None]:
    def spoil(data: dict) -> None:
        data["annotations"].append({**data["annotations"][0], **row})

    return spoil


def _ids_as_floats(data: dict) -> None:
    for row in (*data["images"], *data["categories"]):
        row["id"] = float(row["id"])
    for row in data["annotations"]:
        row.update({key: float(row[key]) for key in ("id", "image_id", "category_id")})


nan, inf = float("nan"), float("inf")

COCO_PROBLEMS = (
    # The file
    Problem("the file is cut off", ERROR, r"not valid JSON at line 1, .* cut off", as_text(lambda t: t[:-40])),
    Problem("the file is not in UTF-8", ERROR, "not a text file in UTF-8", as_text(lambda t: t.replace("cat", "kätzchen").encode("latin-1"))),
    Problem("a byte order mark, as editors on Windows write it", TAKEN, "", as_text(lambda t: t.encode("utf-8-sig"))),
    Problem("the file is in UTF-16 with a byte order mark", TAKEN, "", as_text(lambda t: t.encode("utf-16"))),
    Problem("names that are not ASCII, in a locale that is not UTF-8", TAKEN, "", _named("Kätzchen")),
    Problem("lists nested ten thousand deep", ERROR, "not valid JSON", as_text(lambda t: "[" * 10_000)),
    Problem("two categories with the same name", TAKEN, "2 categories are called 'dog'", _named("dog"), why="they are different classes; a warning names their ids"),
    # Images
    Problem("an image is listed twice", ERROR, r"image ids must be unique", lambda d: d["images"].append(d["images"][0])),
    Problem("an image has no size", ERROR, r"image number 0 .* lacks \['width'\]", image(width=...)),
    Problem("a size is given as text", ERROR, "has width '64'", image(width="64")),
    Problem("a size is infinite", ERROR, "has height inf", image(height=inf)),
    Problem("a size is not a whole number", ERROR, r"has height 48.5; expected a whole number", image(height=48.5)),
    Problem("the size differs from that of the image file", ERROR, r"1.png: the image is 48 x 64 .* but its dataset says 64 x 48", image(height=64, width=48)),
    Problem("an image file is missing", ERROR, r"1 of the 4 files .* do not exist, the first is .*none\.png", image(file_name="none.png")),
    Problem("an image without annotations", TAKEN, "", lambda d: d["annotations"].pop(), why="DATALOADER.FILTER_EMPTY_ANNOTATIONS says whether it is trained on"),
    # Annotations
    Problem("ids of annotations that repeat, start at 0, are negative or text, or are absent", TAKEN, "", every_annotation(id=lambda i: (0, -1, "a", 0)[i]), why="they are not used"),
    Problem("image_id as text where the image has a number", ERROR, "annotation 11 has image_id '1', but the image has id 1", annotation(image_id="1")),
    Problem("annotations of images that are not listed", LEFT_OUT, r"left out 1 annotations of images that are not in", _add(image_id=99)),
    Problem("a category that is not listed", ERROR, "has category_id 9, absent from its 'categories'", annotation(category_id=9)),
    Problem("ids that are whole numbers with a decimal point, such as 2.0", TAKEN, "", _ids_as_floats),
    Problem("a category_id as text", ERROR, "has category_id '1', absent", annotation(category_id="1")),
    Problem("iscrowd as text", ERROR, "has iscrowd '0'; expected a whole number", annotation(iscrowd="0")),
    Problem("'ignore' is set", ERROR, "has 'ignore' set, which is not supported", annotation(ignore=1)),
    Problem("no area", TAKEN, "", every_annotation(area=...), why="the evaluation uses that of the mask, or else of the box"),
    Problem("an area as text", ERROR, "has area '480'; expected a number of square pixels", annotation(area="480")),
    Problem("an area that is not finite", ERROR, "has area nan", annotation(area=nan)),
    # Boxes
    Problem("an annotation without a box", ERROR, "has bbox None; expected", annotation(bbox=...)),
    Problem("a box of three numbers", ERROR, r"has bbox \[1, 2, 3\]", annotation(bbox=[1, 2, 3])),
    Problem("numbers of a box as text", ERROR, r"has bbox \['8', 8, 20, 24\]", annotation(bbox=["8", 8, 20, 24])),
    Problem("a number of a box that is not finite, or null", ERROR, r"has bbox \[nan, 8, 20, 24\]; expected .* finite", annotation(bbox=[nan, 8, 20, 24])),
    Problem("a box of negative width", ERROR, r"has bbox \[8, 8, -20, 24\]", annotation(bbox=[8, 8, -20, 24])),
    Problem("a box without area", LEFT_OUT, r"1 with a box without area \(the first is annotation 11 of image 1\)", annotation(bbox=[8, 8, 0, 24])),
    Problem("a box outside of its image", LEFT_OUT, "1 with a box outside of the image", annotation(bbox=[100, 8, 20, 24])),
    Problem("every box outside of its image", ERROR, "not one of the 4 annotations can be used: 4 with a box outside", every_annotation(bbox=[100, 8, 20, 24])),
    Problem("boxes as fractions of the image", ERROR, "no number of its 4 boxes is above 1", every_annotation(bbox=[0.1, 0.1, 0.5, 0.5])),
    Problem("a box that is absurdly far outside", ERROR, "which is far outside of its image", annotation(bbox=[8, 8, 1e12, 24])),
    # Masks
    Problem("an annotation without a mask", ERROR, r"MASK_ON is True, but 1 of the 4 annotations have no 'segmentation', the first is .*1\.png", annotation(segmentation=...), "masks"),
    Problem("an empty list of polygons", ERROR, "1 of the 4 annotations have no 'segmentation'", annotation(segmentation=[]), "masks"),
    Problem("only polygons of fewer than three points", LEFT_OUT, "1 with no polygon of three points or more", annotation(segmentation=[[8, 8, 28, 8]]), "masks"),
    Problem("a polygon of two points next to a good one", TAKEN, "", annotation(segmentation=[POLYGON, [8, 8, 28, 8]]), "masks", "the polygon is left out, as it covers nothing"),
    Problem("a coordinate of a polygon that is not finite, or null", ERROR, r"has a polygon \[None, 8, .*; expected finite numbers", annotation(segmentation=[[None, *POLYGON[1:]]]), "masks"),
    Problem("a coordinate of a polygon that is absurd", ERROR, r"has a polygon \[10000000000.0, .*far outside of its image", annotation(segmentation=[[1e10, *POLYGON[1:]]]), "masks"),
    Problem("a polygon as a list of points", ERROR, "not as points of their own", annotation(segmentation=[[[8, 8], [28, 8], [28, 32]]]), "masks"),
    Problem("coordinates without a list for each polygon", ERROR, "put the coordinates of a polygon into a list of their own", annotation(segmentation=POLYGON), "masks"),
    Problem("RLE masks where INPUT.MASK_FORMAT is polygon", ERROR, "INPUT.MASK_FORMAT is 'polygon', but 1 of the 4 masks are RLE", annotation(segmentation=rle()), "masks"),
    Problem("an RLE without counts or size", ERROR, "has an RLE .*; expected 'size' .* and 'counts'", all_rle({"size": list(SIZE)}), "bitmasks"),
    Problem("an RLE whose size differs from that of the image", ERROR, "has an RLE of 64 x 48, but its image is 48 x 64", all_rle(rle(64, 48)), "bitmasks"),
    Problem("an RLE whose counts do not add up", ERROR, "counts add up to 1000 pixels, but its size is 48 x 64 = 3072", all_rle({"size": list(SIZE), "counts": [500, 500]}), "bitmasks"),
    Problem("an RLE with absurd or negative counts", ERROR, "expected run lengths of 0 to 3072 pixels", all_rle({"size": list(SIZE), "counts": [10**12, -5]}), "bitmasks"),
    Problem("an RLE whose text is damaged", ERROR, "expected run lengths of 0 to 3072", all_rle(rle(counts="zzzz~")), "bitmasks"),
    # Keypoints
    Problem("keypoints that are not x, y and visibility for each", ERROR, r"has keypoints \[10, 10\]; expected x, y, visibility", annotation(keypoints=[10, 10]), "keypoints"),
    Problem("a keypoint that is not finite, or null", ERROR, "has keypoints .*; expected .* finite", annotation(keypoints=[None, 10, 2, 20, 20, 1, 0, 0, 0]), "keypoints"),
    Problem("an object without keypoints", ERROR, "KEYPOINT_ON is True, but .*1.png: annotation number 1 has no 'keypoints'", _add(keypoints=None), "keypoints"),
    Problem("an image without a visible keypoint", TAKEN, "", annotation(keypoints=[0] * 9), "keypoints", "MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE says whether it is trained on"),
    Problem("an object with another number of keypoints", ERROR, "annotation number 0 has 1 keypoints, but keypoint_names in the metadata have 3", annotation(keypoints=[10, 10, 2]), "keypoints"),
)  # fmt: skip


def markdown() -> str:
    """The table of the docs."""
    lines = [
        "# Problems of datasets",
        "",
        "Generated from the tests by `python -m tests.data_problems`. For every row, a test starts training on",
        "a COCO file that has the problem. Every error is raised before the first iteration and names the file",
        "and the annotation. The data of other readers, and dicts that you register yourself, are checked by",
        "the same code (`d2lite/data/ground_truth.py`). Evaluators use its output too, so an annotation that",
        "training leaves out does not count in the evaluation either.",
        "",
        "| problem | what d2lite does |",
        "| --- | --- |",
    ]
    for problem in COCO_PROBLEMS:
        model = {"masks": " (with masks on)", "bitmasks": " (with masks on)"}
        model["keypoints"] = " (with keypoints on)"
        why = f"; {problem.why}" if problem.why else ""
        lines.append(f"| {problem.title}{model.get(problem.needs, '')} | {problem.outcome}{why} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCS.write_text(markdown(), encoding="utf-8")
