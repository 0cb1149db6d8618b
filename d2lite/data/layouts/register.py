"""Registering a folder of any layout as datasets: by `register_folder`, or as a URI.

    folder:PATH?split=train     a split of a folder (or annotation file) of any layout

Options, joined by `&`: `layout` (detected by default), `split` (train, val, test or all),
`classes`, and `val_share` (0.2) and `seed` (0), which make a validation
split if the data have none. The URI is complete, so a config or a checkpoint that contains it can
be used as it is.
"""

import json
import logging
import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from d2lite.data.catalog import DatasetCatalog, Metadata, MetadataCatalog, ResolvedDataset
from d2lite.data.datasets.uri import parse_dataset_uri
from d2lite.data.layouts.files import Folder
from d2lite.data.layouts.labeled import ALL, LabeledImages
from d2lite.data.layouts.splits import split_records
from d2lite.data.layouts.table import LAYOUTS, layout_of, read_folder
from d2lite.utils.errors import ArgumentError
from d2lite.utils.writing import atomic_write

logger = logging.getLogger(__name__)

SPLIT_FILE = "split.json"


@dataclass
class RegisteredFolder:
    """Datasets that a folder was registered as."""

    train: str
    """Name of the dataset to train on."""
    val: str
    """Name of the dataset to evaluate on."""
    test: str | None
    """Name of the test dataset, if there is one."""
    class_names: list[str]
    kinds: tuple[str, ...]
    """What can be learned: "boxes", and "masks" and "keypoints" if all objects have them."""
    layout: str
    """Name of the layout in `LAYOUTS`."""
    sizes: dict[str, int]
    """Number of images of each split."""
    split_file: str | None
    """Path of the file that records the split, if one was made."""
    notes: list[str] = field(default_factory=list)
    """Remarks about the data, one line each."""

    def summary(self) -> str:
        """Return one line: layout, images of each split, classes, what can be learned."""
        sizes = ", ".join(f"{count} {split}" for split, count in self.sizes.items())
        shown = ", ".join(self.class_names[:6]) + (", ..." if len(self.class_names) > 6 else "")
        made = f" (split written to {self.split_file})" if self.split_file else ""
        return (
            f"{LAYOUTS[self.layout].title}: {sizes} images{made}; {len(self.class_names)} "
            f"class{'' if len(self.class_names) == 1 else 'es'} ({shown}); {', '.join(self.kinds)}"
        )


def register_folder(
    path: str,
    *,
    output_dir: str,
    val_share: float = 0.2,
    seed: int = 0,
    layout: str | None = None,
) -> RegisteredFolder:
    """Register the train and the validation set of a folder of any layout.

    The names are URIs (`folder:...`), so later programs can use them too. Data without a validation
    set are split, always in the same way for the same images, share and seed; `split.json` in the
    output folder lists the images of each part.

    Args:
        path: a folder, or an annotation file.
        output_dir: folder of the run.
        val_share: share of the images to hold out if there is no validation set.
        seed: seed of that split.
        layout: a name in `LAYOUTS`; detected by default.
    Raises:
        ArgumentError: no layout, or more than one, or no images to train on.
        FileNotFoundError: images are missing.
        ValueError: the data are malformed; the message names file, line or record.
    """
    path = os.path.abspath(os.path.expanduser(os.fspath(path)))
    layout = layout_of(Folder(path), layout)
    data = read_folder(path, layout)
    data.require_images()
    found = list(data.splits)
    data = with_validation(data, val_share, seed)
    made = list(data.splits) != found
    names = {}
    for split in data.splits:
        options = f"split={split}&layout={layout}"
        if made:
            options += f"&val_share={val_share}&seed={seed}"
        names[split] = f"folder:{quote(path, safe='/:')}?{options}"
        dataset = _Split(path, split, layout, (val_share, seed) if made else None)
        # As `resolve_folder` does, but without reading again; replaces what was read before.
        DatasetCatalog.data[names[split]] = dataset
        metadata = Metadata(name=names[split]).set(**dataset.metadata(data))
        MetadataCatalog.data[names[split]] = metadata
    result = RegisteredFolder(
        train=names["train"],
        val=names["val"],
        test=names.get("test"),
        class_names=data.class_names,
        kinds=data.kinds(),
        layout=layout,
        sizes={split: len(records) for split, records in data.splits.items()},
        split_file=os.path.join(output_dir, SPLIT_FILE) if made else None,
        notes=[*data.notes, *_class_notes(data)],
    )
    if result.split_file:
        _write_split(data, result.split_file, path, val_share, seed)
    return result


def with_validation(data: LabeledImages, val_share: float, seed: int) -> LabeledImages:
    """Return data with "train" and "val": unchanged if they have both, otherwise after a split.

    A single split of any name counts as the whole data. With train and test, the validation set is
    taken from train.

    Raises:
        ArgumentError: there is nothing to train on, or too little to split.
    """
    if {"train", "val"} <= data.splits.keys():
        return data
    source = "train" if "train" in data.splits else next(iter(data.splits))
    if source != "train" and len(data.splits) > 1:
        raise ArgumentError(
            f"{data.root}: has the splits {', '.join(data.splits)}, but none to train on; call one "
            "of them 'train'"
        )
    train, val = split_records(data, data.splits[source], val_share, seed)
    splits = {"train": train, "val": val}
    if source == "train" and "test" in data.splits:
        splits["test"] = data.splits["test"]
    notes = [f"no validation set: {val_share:g} of the images of {source!r} are held out as one"]
    if source in ("val", "test"):
        notes.append(f"the only split is {source!r}, and is treated as the whole data")
    return LabeledImages(
        data.layout,
        data.root,
        data.class_names,
        splits,
        data.category_ids,
        data.keypoints,
        data.missing,
        data.notes + notes,
    )


def _class_notes(data: LabeledImages) -> list[str]:
    having = {
        split: {a["category_id"] for record in records for a in record["annotations"]}
        for split, records in data.splits.items()
    }
    notes = []
    for split, verb in (("train", "cannot be learned"), ("val", "cannot be evaluated")):
        absent = [n for i, n in enumerate(data.class_names) if i not in having[split]]
        if absent:
            shown = ", ".join(absent[:6]) + (", ..." if len(absent) > 6 else "")
            notes.append(f"{split} has no object of {shown}: {verb}")
    return notes


def _write_split(data: LabeledImages, path: str, source: str, share: float, seed: int) -> None:
    content = {"data": source, "val_share": share, "seed": seed} | {
        split: [data.relative(record) for record in records]
        for split, records in data.splits.items()
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            before = file.read()
        if before != text:
            logger.warning("%s: the data have changed since, so the split is different now", path)
    with atomic_write(path, "w", together=True) as file:
        file.write(text)


@dataclass(frozen=True)
class _Split:
    """One split of a folder; calling it reads it."""

    path: str
    split: str
    layout: str | None
    share_and_seed: tuple[float, int] | None  # None unless a validation set must be made
    classes: tuple[str, ...] | None = None  # others are left out

    def read(self) -> LabeledImages:
        data = read_folder(self.path, self.layout)
        data.require_images()
        if self.share_and_seed is not None:
            data = with_validation(data, *self.share_and_seed)
        if self.split == ALL:
            data.splits = {ALL: data.records()}
        if self.split not in data.splits:
            raise ValueError(
                f"{self.path}: there is no split {self.split!r}; it has {', '.join(data.splits)}"
            )
        unknown = [name for name in self.classes or () if name not in data.class_names]
        if unknown:
            raise ValueError(
                f"{self.path}: there is no class {unknown[0]!r}; it has "
                f"{', '.join(data.class_names)}"
            )
        return data

    def __call__(self) -> list[dict]:
        data = self.read()
        records = data.splits[self.split]
        if self.classes is not None:
            index = {data.class_names.index(name): i for i, name in enumerate(self.classes)}
            for record in records:
                record["annotations"] = [
                    {**annotation, "category_id": index[annotation["category_id"]]}
                    for annotation in record["annotations"]
                    if annotation["category_id"] in index
                ]
        logger.info(
            "Loaded %s images (%s, %s)", len(records), LAYOUTS[data.layout].title, self.split
        )
        return records

    def metadata(self, data: LabeledImages) -> dict[str, Any]:
        """Return what the catalog stores, given what `read` returned."""
        found = data.metadata() | {"layout": data.layout, "image_root": data.root}
        if self.classes is not None:
            found["thing_classes"] = list(self.classes)
            found.pop("thing_dataset_id_to_contiguous_id", None)
        return found


def resolve_folder(uri: str) -> ResolvedDataset:
    """Return the dataset of a `folder:` URI.

    Without the option `classes`, its classes are those of all splits.

    Raises:
        ValueError, OSError: the URI or the data are malformed, or images are missing.
    """
    parsed = parse_dataset_uri(uri, ("split", "layout", "val_share", "seed"))
    options = parsed.options
    numbers: dict[str, Any] = {"val_share": 0.2, "seed": 0}
    for key in numbers.keys() & options.keys():
        try:
            numbers[key] = type(numbers[key])(options[key])
        except ValueError:
            raise ValueError(
                f"dataset {uri!r}: {key!r} is {options[key]!r}; expected a number"
            ) from None
    name = options.get("split", ALL)
    makes = name in ("train", "val")
    split = _Split(
        parsed.path,
        name,
        options.get("layout"),
        (numbers["val_share"], numbers["seed"]) if makes else None,
        tuple(parsed.classes) if parsed.classes else None,
    )
    return ResolvedDataset(split, split.metadata(split.read()))
