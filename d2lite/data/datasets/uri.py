"""Datasets given by a URI instead of a name, so that your own data need no Python code.

    coco:PATH.json?images=DIR     a COCO instance file; images default to the file's own folder
    voc:DIR?split=train           a Pascal VOC folder
    folder:PATH?split=train       a folder of any layout, see `d2lite.data.layouts.register`

Options, joined by `&`:

    classes=a,b          names and order of the classes; boxes of others are left out. Without it,
                         classes are read from the data: by id for COCO, for VOC in alphabetical
                         order over all annotation files, so that all splits agree
    evaluator=pascal_voc (voc) evaluate with VOC's own metric instead of COCO's
    year=2007            (voc) which of VOC's metrics: 2007 (11 points) or 2012 (area, default)

Paths may be relative and may start with `~`. Characters with a special meaning (`?`, `&`, `%`, a
comma in a class name) are percent-encoded, such as `%26` for `&`.
"""

import logging
import os
from dataclasses import dataclass
from urllib.parse import unquote

from d2lite.data.catalog import ResolvedDataset, register_scheme
from d2lite.data.datasets.coco import coco_records
from d2lite.data.datasets.coco_json import read_categories, read_json, section
from d2lite.data.datasets.keypoint_meta import keypoint_metadata
from d2lite.data.datasets.pascal_voc import load_voc_instances, read_voc_class_names, read_voc_split
from d2lite.data.missing_files import missing_files
from d2lite.utils.file_io import PathManager
from d2lite.utils.registry import did_you_mean

_EXAMPLES = {
    "coco": "'coco:train.json?images=photos'",
    "voc": "'voc:DIR?split=train'",
    "folder": "'folder:DIR?split=train'",
}


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetURI:
    """A URI in parts, decoded."""

    text: str
    scheme: str
    path: str  # `~` expanded
    options: dict[str, str]
    classes: list[str] | None  # from the option of this name


def parse_dataset_uri(uri: str, options: tuple[str, ...] = ()) -> DatasetURI:
    """Parse `scheme:path?key=value&key=value`.

    Args:
        uri: the whole URI.
        options: names of the options that this scheme takes, besides "classes".
    Raises:
        ValueError: no path, or an option that is unknown, repeated or without a value.
    """
    scheme, _, rest = uri.partition(":")
    path, _, query = rest.partition("?")
    if not path:
        raise ValueError(
            f"dataset {uri!r}: there is no path after '{scheme}:'"
            + (f", such as in {_EXAMPLES[scheme]}" if scheme in _EXAMPLES else "")
        )
    allowed = (*options, "classes")
    found: dict[str, str] = {}
    for part in query.split("&") if query else []:
        key, _, value = part.partition("=")
        if key not in allowed:
            raise ValueError(
                f"dataset {uri!r}: unknown option {key!r}.{did_you_mean(key, allowed)} "
                f"'{scheme}:' takes {', '.join(allowed)}"
            )
        if key in found or not value:
            problem = "is given twice" if key in found else "has no value"
            raise ValueError(f"dataset {uri!r}: option {key!r} {problem}")
        found[key] = value
    classes = _classes(uri, found.pop("classes", None))
    decoded = {key: unquote(value) for key, value in found.items()}
    return DatasetURI(uri, scheme, os.path.expanduser(unquote(path)), decoded, classes)


def _classes(uri: str, value: str | None) -> list[str] | None:
    if value is None:
        return None
    names = [unquote(name) for name in value.split(",")]  # a comma in a name is %2C
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"dataset {uri!r}: 'classes' has an empty or a repeated name")
    return names


def register_all_schemes() -> None:
    """Make `coco:`, `voc:` and `folder:` known to the catalogs."""
    register_scheme("coco", _resolve_coco)
    register_scheme("voc", _resolve_voc)
    register_scheme("folder", _resolve_folder)


def _resolve_folder(uri: str) -> ResolvedDataset:
    from d2lite.data.layouts.register import resolve_folder  # reads by this module's functions

    return resolve_folder(uri)


def _resolve_coco(uri: str) -> ResolvedDataset:
    parsed = parse_dataset_uri(uri, ("images",))
    json_file = parsed.path
    images = os.path.expanduser(parsed.options.get("images", os.path.dirname(json_file) or "."))
    categories = read_categories(json_file)
    if not PathManager.isdir(images):
        raise FileNotFoundError(
            f"dataset {uri!r}: image folder {images!r} not found; give it as '?images=DIR'"
        )
    names = parsed.classes or [category["name"] for category in categories]
    # The category of each class, by its index; a validation file may lack some of the classes.
    chosen = dict(enumerate(categories))
    if parsed.classes is not None:
        by_name = {category["name"]: category for category in categories}
        unused = [name for name in by_name if name not in parsed.classes]
        chosen = {i: by_name[name] for i, name in enumerate(parsed.classes) if name in by_name}
        for name in parsed.classes:
            if name in by_name:
                continue
            message = f"dataset {parsed.text!r}: {parsed.path} has no category {name!r}."
            hint = did_you_mean(name, unused)
            if hint or not chosen:
                raise ValueError(f"{message}{hint} It has: {', '.join(by_name)}")
            logger.warning("%s It has: %s", message, ", ".join(by_name))
    id_map = {category["id"]: index for index, category in chosen.items()}
    metadata = {
        "thing_classes": names,
        "thing_dataset_id_to_contiguous_id": id_map,
        "image_root": images,
        "evaluator_type": "coco",
        **keypoint_metadata(list(chosen.values())),
    }
    dropped = {category["id"] for category in categories} - id_map.keys()
    if not dropped:  # else evaluation must not see the file's other classes
        metadata["json_file"] = json_file
    return ResolvedDataset(lambda: _load_coco(json_file, images, id_map, dropped), metadata)


def _load_coco(
    json_file: str, images: str, id_map: dict[int, int], dropped: set[int]
) -> list[dict]:
    data = read_json(json_file)
    if dropped and "annotations" in data:
        rows = section(data, "annotations", json_file)
        data["annotations"] = [row for row in rows if row.get("category_id") not in dropped]
        logger.info(
            "%s: left out %s annotations of %s other classes",
            json_file,
            len(rows) - len(data["annotations"]),
            len(dropped),
        )
    records = coco_records(data, json_file, images, id_map)
    missing = missing_files(record["file_name"] for record in records)
    if records and len(missing) == len(records):  # the loader reports single ones
        raise FileNotFoundError(
            f"{missing[0]}: this image of {json_file} does not exist, nor does any other of the "
            f"{len(records)}; is '?images=DIR' the folder that its file names are relative to?"
        )
    logger.info("Loaded %s images in COCO format from %s", len(records), json_file)
    return records


def _resolve_voc(uri: str) -> ResolvedDataset:
    parsed = parse_dataset_uri(uri, ("split", "evaluator", "year"))
    dirname = parsed.path
    split = parsed.options.get("split")
    if split is None:
        raise ValueError(f"dataset {uri!r}: add the split, such as '?split=train'")
    evaluator = _option(parsed, "evaluator", ("coco", "pascal_voc"))
    year = int(_option(parsed, "year", ("2012", "2007")))
    read_voc_split(dirname, split)  # reports a wrong folder or split early
    found = read_voc_class_names(dirname)
    classes = parsed.classes or found
    unknown = [name for name in classes if name not in found]
    if unknown:
        logger.warning(
            "dataset %r: no annotation is of class %r.%s Classes there: %s",
            uri,
            unknown[0],
            did_you_mean(unknown[0], found),
            ", ".join(found),
        )
    metadata = {
        "thing_classes": list(classes),
        "dirname": dirname,
        "split": split,
        "year": year,
        "evaluator_type": evaluator,
    }
    return ResolvedDataset(lambda: _load_voc(dirname, split, classes, found), metadata)


def _option(parsed: DatasetURI, key: str, allowed: tuple[str, ...]) -> str:
    """Return the value of an option with fixed choices, of which the first is the default."""
    value = parsed.options.get(key, allowed[0])
    if value not in allowed:
        raise ValueError(
            f"dataset {parsed.text!r}: {key!r} is {value!r}; use one of {', '.join(allowed)}"
        )
    return value


def _load_voc(dirname: str, split: str, classes: list[str], found: list[str]) -> list[dict]:
    # Read with all classes, those asked for first, and leave the others out.
    others = [name for name in found if name not in classes]
    records = load_voc_instances(dirname, split, [*classes, *others])
    for record in records:
        kept = [a for a in record["annotations"] if a["category_id"] < len(classes)]
        record["annotations"] = kept
    logger.info("Loaded %s images in VOC format from %s, split %r", len(records), dirname, split)
    return records
