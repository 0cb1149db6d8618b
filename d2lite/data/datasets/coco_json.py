"""Reading and checking a COCO-style JSON file, before it is converted to dataset dicts.

COCO and LVIS files share these checks: cut-off files, missing keys, duplicate ids, malformed rows.
"""

import json
import logging
import math
import re
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import PurePath
from typing import Any

from d2lite.utils.errors import file_errors, quoted, shortened
from d2lite.utils.file_io import PathManager
from d2lite.utils.json_files import parse_json, read_json as read_json, read_json_text

logger = logging.getLogger(__name__)


def dataset_errors(source: str) -> AbstractContextManager[None]:
    """Convert errors that an annotation file causes in the block to a ValueError naming it."""
    problem = "it has values that an annotation file does not have"
    return file_errors(ValueError, source, problem, known=(FileNotFoundError,))


def section(data: Any, key: str, json_file: str) -> list[dict]:
    """Return the list of objects `data[key]` of a COCO file; raise ValueError if it is not one."""
    if not isinstance(data, dict):
        raise ValueError(f"{json_file}: expected a JSON object, found a {type(data).__name__}")
    if key not in data:
        raise ValueError(
            f"{json_file}: has no {key!r}; a COCO file has 'images', 'annotations' and "
            f"'categories', but this one has {shortened(', '.join(data)) or 'nothing'}"
        )
    rows = data[key]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{json_file}: {key!r} must be a list of objects")
    return rows


def read_categories(json_file: str) -> list[dict]:
    """Return the categories of a COCO file, by id, without parsing the rest of a large file.

    Raises:
        FileNotFoundError, ValueError: as `read_json`; or the categories are malformed.
    """
    text = read_json_text(json_file)
    decoder = json.JSONDecoder()
    for match in re.finditer(r'"categories"\s*:\s*(?=\[)', text):
        try:
            found, _ = decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            break
        if found and all(isinstance(c, dict) and {"id", "name"} <= c.keys() for c in found):
            return checked_categories({"categories": found}, json_file)
    return checked_categories(parse_json(text, json_file), json_file)


def whole_number(value: Any) -> Any:
    """Return a whole float as an integer, as some programs write ids; other values unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def checked_categories(data: Any, json_file: str) -> list[dict]:
    """Return the categories of a parsed COCO file, sorted by id.

    Raises:
        ValueError: there are none, an id occurs twice, or one has no whole-number id or no name.
    """
    categories = [
        {**row, "id": whole_number(row["id"])} if "id" in row else row
        for row in section(data, "categories", json_file)
    ]
    for index, category in enumerate(categories):
        if not isinstance(category.get("id"), int) or not isinstance(category.get("name"), str):
            raise ValueError(
                f"{json_file}: category number {index} needs a whole-number 'id' and a 'name', "
                f"found {category}"
            )
    if not categories:
        raise ValueError(f"{json_file}: 'categories' is empty")
    check_unique_ids([c["id"] for c in categories], "category", json_file)
    counts = Counter(category["name"] for category in categories)
    if repeated := [name for name, count in counts.items() if count > 1]:
        ids = [category["id"] for category in categories if category["name"] == repeated[0]]
        logger.warning(
            "%s: %s categories are called %r (ids %s); they count as different classes",
            json_file,
            len(ids),
            repeated[0],
            ", ".join(map(str, ids)),
        )
    return sorted(categories, key=lambda c: c["id"])


def sorted_images(data: Any, json_file: str, needs: tuple[str, ...]) -> list[dict]:
    """Return the images of a parsed file, sorted by id.

    Raises:
        ValueError: an image lacks 'id' or a key in `needs`, or has an invalid value.
    """
    images = [
        {**row, "id": whole_number(row["id"])} if "id" in row else row
        for row in section(data, "images", json_file)
    ]
    wanted = {"id", *needs}
    for index, image in enumerate(images):
        if not wanted <= image.keys():
            raise ValueError(
                f"{json_file}: image number {index} (id {image.get('id')}) lacks "
                f"{sorted(wanted - image.keys())}"
            )
        _check_image(image, index, json_file, needs)
    if len({type(image["id"]) for image in images}) > 1:
        raise ValueError(
            f"{json_file}: some image ids are numbers, others are strings; use one kind"
        )
    check_unique_ids([image["id"] for image in images], "image", json_file)
    return sorted(images, key=lambda image: image["id"])


def _check_image(image: dict, index: int, json_file: str, needs: tuple[str, ...]) -> None:
    if not isinstance(image["id"], int | str):
        raise ValueError(
            f"{json_file}: image number {index} has id {quoted(image['id'])}; expected a whole "
            "number or a string"
        )
    for key in ("height", "width"):
        size = image.get(key, 1)
        if not isinstance(size, int | float) or not 0 < size < math.inf:
            raise ValueError(
                f"{json_file}: image number {index} (id {image['id']}) has {key} {quoted(size)}; "
                "expected a number of pixels above 0"
            )
    for key in ("file_name", "coco_url"):
        if key in needs and not isinstance(image[key], str):
            raise ValueError(
                f"{json_file}: image number {index} (id {image['id']}) has {key} "
                f"{quoted(image[key])}; expected a string"
            )


def check_unique_ids(ids: list, what: str, json_file: str) -> None:
    """Raise a ValueError if an id occurs twice; `what` names the rows in the message."""
    if len(set(ids)) == len(ids):
        return
    double = [f"{i} ({n} times)" for i, n in Counter(ids).items() if n > 1]
    raise ValueError(
        f"{json_file}: {what} ids must be unique, but these are not: "
        f"{shortened(', '.join(double[:5]))}{' and others' if len(double) > 5 else ''}"
    )


def group_by_image(annotations: list[dict], image_ids: list, json_file: str) -> dict[Any, list]:
    """Return the annotations of each image id, in file order.

    Those of images that are not listed are left out with a warning, because files that were
    shortened by hand often keep them.
    """
    groups: dict[Any, list] = {image_id: [] for image_id in image_ids}
    unlisted: list[dict] = []
    for index, annotation in enumerate(annotations):
        image_id = annotation.get("image_id")
        if not isinstance(image_id, int | str | float | None):
            raise ValueError(
                f"{json_file}: {label(annotation, index)} has image_id {quoted(image_id)}; "
                "expected the id of an image"
            )
        groups.get(image_id, unlisted).append(annotation)
    if not unlisted:
        return groups
    by_text = {str(image_id): image_id for image_id in image_ids}
    for annotation in unlisted:
        image_id = annotation.get("image_id")
        if str(image_id) in by_text:
            raise ValueError(
                f"{json_file}: annotation {annotation.get('id')} has image_id {quoted(image_id)}, "
                f"but the image has id {quoted(by_text[str(image_id)])}; write both as numbers, "
                "or as strings"
            )
    logger.warning(
        "%s: left out %s annotations of images that are not in 'images', the first of image %s",
        json_file,
        len(unlisted),
        unlisted[0].get("image_id"),
    )
    return groups


def label(annotation: dict, index: int | None = None) -> str:
    """Return the name of an annotation of a file in messages."""
    if "id" in annotation or index is None:
        return f"annotation {annotation.get('id')} of image {annotation.get('image_id')}"
    return f"annotation number {index}"


def check_image_folder(image_root: str, first_file: str, source: str) -> None:
    """Raise FileNotFoundError if the folder of the images of `source` does not exist.

    `first_file` is the joined path of one image: names in the file may be absolute paths, and
    then the folder does not matter.
    """
    if not image_root or PathManager.isdir(image_root) or PathManager.isfile(first_file):
        return
    raise FileNotFoundError(
        f"{source}: its images should be in {image_root!r}, but that folder does not exist "
        f"(first image: {PurePath(first_file).name})"
    )
