"""Every reader of files, with good files to damage and the errors that it documents.

`READERS` is the table: a reader that is added there is fuzzed, in the short and in the long form.
"""

import contextlib
import dataclasses
import io
import json
import math
import os
import pickle
import random
import shutil
import socket
import threading
import weakref
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch
import yaml
from PIL import Image
from torch import nn

from d2lite.checkpoint import DetectionCheckpointer
from d2lite.checkpoint.reading import CheckpointFileError, read_about, read_checkpoint_file
from d2lite.checkpoint.resuming import ResumeError
from d2lite.config import LazyConfig, get_cfg, instantiate
from d2lite.config.errors import (
    ConfigFileError,
    ConfigTypeError,
    ConfigVersionError,
    ConfigYamlError,
    UnknownKeyError,
)
from d2lite.data import DatasetMapper, MetadataCatalog
from d2lite.data.annotations import AnnotationError, normalize_annotation
from d2lite.data.dataset_dicts import load_proposals_into_dataset
from d2lite.data.datasets import load_coco_json
from d2lite.data.datasets.cityscapes import load_cityscapes_instances
from d2lite.data.datasets.coco_panoptic import load_coco_panoptic_json
from d2lite.data.datasets.lvis import load_lvis_json
from d2lite.data.datasets.pascal_voc import load_voc_instances
from d2lite.data.image_io import (
    ImageReadError,
    SizeMismatchError,
    read_image,
    read_image_size,
    read_labels,
)
from d2lite.data.layouts import LAYOUTS, read_folder, write_folder
from d2lite.engine import SimpleTrainer, hooks
from d2lite.engine.bad_steps import NonFiniteError
from d2lite.engine.early_stop import EarlyStop
from d2lite.engine.run_folder import claim_output_dir, release_output_dir
from d2lite.structures import BoxMode
from d2lite.utils import downloads
from d2lite.utils.errors import ArgumentError
from d2lite.utils.event_files import drop_event_records_from, drop_json_lines_from
from tests.data.layouts import tiny
from tests.reliability.mutations import damage_bytes, damage_value

__all__ = ["READERS", "Reader"]

HEIGHT, WIDTH = 12, 16


@dataclasses.dataclass
class Reader:
    """A reader under test."""

    file: str
    """The name of the damaged file, in a folder of its own."""
    seeds: Callable[[Path], list[bytes]]
    """Good files of that name; it also puts what belongs beside them into the folder."""
    read: Callable[[Path], Any]
    """Reads the damaged file, as a program would, to its last value."""
    errors: tuple[type[Exception], ...]
    """What it may raise, with the name of the file in one line."""
    damage_values: Callable[[bytes, random.Random], bytes] | None = None
    """Parses a good file, changes values in it and writes it again."""
    wrong: Callable[[Any, list[bytes], bool], str | None] = lambda value, seeds, values: None
    """What is wrong with a value that was read; it gets the value, the good files, and whether
    values were damaged."""
    seeds_are_read: bool = True
    """Whether the good files are read, each of them."""
    names_file: bool = True
    """Whether its messages name the file; those of overrides name the key."""

    def damaged(self, seeds: list[bytes], rng: random.Random) -> tuple[bytes, bool]:
        """Damage one of the good files; returns also whether by its values, not its bytes."""
        content = rng.choice(seeds)
        if self.damage_values is None or rng.random() < 0.4:
            return damage_bytes(content, seeds, rng), False
        return self.damage_values(content, rng), True


# --- checkpoints


def _model() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def _weights() -> dict[str, Any]:
    model = _model()
    about = {
        "version": "1",
        "config_kind": "yaml",
        "config": {"MODEL": {"MASK_ON": True}, "SEED": 3},
        "metadata": {"thing_classes": ["a", "b"]},
    }
    return {
        "model": model.state_dict(),
        "about": about,
        "iteration": 3,
        "rng": np.random.default_rng(0).bit_generator.state,
        "metric": np.float64(0.5),
        "array": np.arange(3),
    }


def _saved(data: Any, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(data, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def _damaged_checkpoint(content: bytes, rng: random.Random) -> bytes:
    legacy = not content.startswith(b"PK")
    data = torch.load(io.BytesIO(content), weights_only=False)
    for key in list(data):
        if isinstance(data[key], dict):
            data[key] = dict(data[key])  # without the versions of a state dict
    return _saved(damage_value(data, rng), legacy)


def _damaged_pickle(content: bytes, rng: random.Random) -> bytes:
    return pickle.dumps(damage_value(pickle.loads(content), rng), rng.randrange(2, 6))


def _read_checkpoint(path: Path) -> Any:
    read_about(path)
    return read_checkpoint_file(path)


def _other_weights(data: Any, seeds: list[bytes], values: bool) -> str | None:
    """torch.save's zip files have checksums: what is read must be what was saved."""
    if values:
        return None
    goods = [torch.load(io.BytesIO(seed), weights_only=False) for seed in seeds]
    return None if any(_equal(data, good) for good in goods) else "other weights were read"


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
        return one.dtype == two.dtype and np.array_equal(one, two)
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_equal(one[key], two[key]) for key in one)
    return type(one) is type(two) and one == two


def _load_into_model(path: Path) -> tuple[nn.Module, Any]:
    model = _model()
    DetectionCheckpointer(model).load(str(path))
    return model, model.state_dict()


def _caffe2_pickle() -> bytes:
    blobs = {"conv1_w": np.ones((2, 3), np.float32), "res_conv1_bn_s": np.ones(2, np.float32)}
    return pickle.dumps({"blobs": blobs, "cfg": "text"}, 2)


def _detectron2_pickle() -> bytes:
    weights = {name: value.numpy() for name, value in _model().state_dict().items()}
    data = {"model": weights, "__author__": "someone", "matching_heuristics": True}
    return pickle.dumps(data, 4)


class _Loader:
    """Batches that depend on the position only."""

    def __init__(self) -> None:
        self.position = 0

    def __iter__(self):
        while True:
            self.position += 1
            yield torch.full((2, 3), self.position / 10)

    def state_dict(self) -> dict:
        return {"position": self.position}

    def load_state_dict(self, state: dict) -> None:
        self.position = state["position"]


class _Loss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = _model()

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.net(batch).square().mean()}


def _run(folder: Path, resume: bool, max_iter: int) -> dict[str, torch.Tensor]:
    """Train a few steps with all that keeps a state; returns the weights."""
    model = _Loss()
    adam = max_iter % 2 == 0
    optimizer = (
        torch.optim.AdamW(model.parameters(), lr=0.01)
        if adam
        else torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    )
    trainer = SimpleTrainer(model, _Loader(), optimizer)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5])
    trainer.scheduler = scheduler
    checkpointer = DetectionCheckpointer(model, str(folder), trainer=weakref.proxy(trainer))
    best = hooks.BestCheckpointer(2, checkpointer, "box/AP")
    trainer.register_hooks(
        [
            hooks.LRScheduler(optimizer, scheduler),
            hooks.PeriodicCheckpointer(checkpointer, 2),
            hooks.EvalHook(2, lambda: {"box": {"AP": float(trainer.iter % 5)}}),
            best,
            EarlyStop(2, 50, "box/AP", best),
        ]
    )
    checkpointer.resume_or_load("", resume=resume)
    start = trainer.iter + 1 if resume else 0
    trainer.train(start, max_iter)
    return {name: value.clone() for name, value in model.state_dict().items()}


_LENGTH = 8


def _checkpoints_of_a_run(folder: Path) -> list[bytes]:
    _run(folder, False, _LENGTH)
    for name in ("model_0000001.pth", "model_best.pth", "model_best.json"):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("*.pth"):
        if path.name not in ("model_0000003.pth", "model_0000005.pth"):
            path.unlink()
    (folder / "last_checkpoint").write_text("model_0000005.pth")
    return [(folder / "model_0000005.pth").read_bytes()]


def _damaged_run(content: bytes, rng: random.Random) -> bytes:
    data = torch.load(io.BytesIO(content), weights_only=False)
    model = data.pop("model")
    data = damage_value(data, rng)
    return _saved({"model": model, **data} if isinstance(data, dict) else data)


def _resume(path: Path) -> dict[str, torch.Tensor]:
    kept = {p.name for p in path.parent.iterdir()}
    tag = (path.parent / "last_checkpoint").read_text()
    try:
        return _run(path.parent, True, _LENGTH)
    finally:
        for extra in path.parent.iterdir():
            if extra.name not in kept:
                extra.unlink()
        (path.parent / "last_checkpoint").write_text(tag)


def _not_finite(weights: Any, seeds: list[bytes], values: bool) -> str | None:
    finite = all(bool(torch.isfinite(v).all()) for v in weights.values() if v.is_floating_point())
    return None if finite else "the run went on with weights that are not finite"


# --- proposals


def _proposals(folder: Path) -> list[bytes]:
    rng = np.random.default_rng(0)
    data = {
        "ids": [1, "b"],
        "boxes": [rng.random((n, 4)).astype(np.float32) for n in (3, 2)],
        "objectness_logits": [rng.random(n).astype(np.float32) for n in (3, 2)],
        "bbox_mode": BoxMode.XYXY_ABS,
    }
    old = {"indexes": data["ids"], "scores": data["objectness_logits"], "boxes": data["boxes"]}
    return [pickle.dumps(data, 4), pickle.dumps(old, 2)]


def _read_proposals(path: Path) -> list[dict]:
    dicts = [{"image_id": 1}, {"image_id": "b"}]
    return load_proposals_into_dataset(dicts, str(path))


def _odd_proposals(dicts: list[dict], seeds: list[bytes], values: bool) -> str | None:
    for one in dicts:
        boxes, logits = one["proposal_boxes"], one["proposal_objectness_logits"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or logits.shape != boxes.shape[:1]:
            return f"proposals of the shapes {boxes.shape} and {logits.shape}"
        if boxes.dtype.kind not in "fiu" or not np.isfinite(boxes).all():
            return f"proposals that are no finite numbers ({boxes.dtype})"
        BoxMode.convert(boxes, one["proposal_bbox_mode"], BoxMode.XYXY_ABS)
    return None


# --- configs

_YAML = """\
MODEL:
  WEIGHTS: "detectron2://x.pkl"
  MASK_ON: True
  PIXEL_MEAN: [1.0, 2.5, 3]
  ANCHOR_GENERATOR: {SIZES: !!python/object/apply:eval ["[[x, x * 2**(1/3)] for x in (32, 64)]"]}
SOLVER: &solver
  STEPS: (60000, 80000)
  BASE_LR: 1e-3
  MAX_ITER: 90000
INPUT:
  MIN_SIZE_TRAIN: !!python/tuple [640, 672]
DATASETS: {TRAIN: ["a", "b"], TEST: ["c"]}
VERSION: 2
"""
_OLD_YAML = "MODEL: {WEIGHT: x.pkl, RPN: {ANCHOR_SIZES: [[32]]}}\nTEST: {AUG_ON: True}\n"
_BASED_YAML = "_BASE_: base.yaml\nSEED: 5\n"
_LAZY_YAML = """\
model:
  _target_: torch.nn.Linear
  in_features: 3
  out_features: ${size}
size: 4
optimizer: {_target_: torch.optim.SGD, lr: 0.1, params: [1.5], betas: [0.9, 0.99]}
schedule:
  _target_: fvcore.common.param_scheduler.MultiStepParamScheduler
  values: [1, 0.1]
  milestones: [3, 6]
"""


def _yaml_files(folder: Path) -> list[bytes]:
    (folder / "base.yaml").write_text("SOLVER: {BASE_LR: 0.5}\n")
    return [_YAML.encode(), _OLD_YAML.encode(), _BASED_YAML.encode(), _YAML.encode("utf-16")]


def _damaged_yaml(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-16" if content[:1] in b"\xff\xfe" else "utf-8")
    plain = yaml.safe_load(
        text.replace("!!python/object/apply:eval ", "").replace("!!python/tuple", "")
    )
    damaged = yaml.dump(damage_value(plain, rng), Dumper=_NoAliases, allow_unicode=True)
    return damaged.encode("utf-8", errors="replace")


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _merge(path: Path) -> Any:
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    return cfg


def _odd_config(cfg: Any, seeds: list[bytes], values: bool) -> str | None:
    again = get_cfg()
    again.set_new_allowed(True)
    text = cfg.dump()
    path = Path("again.yaml")
    path.write_text(text, encoding="utf-8")
    again.merge_from_file(str(path))
    if repr(yaml.safe_load(again.dump())) != repr(yaml.safe_load(text)):
        return "the config differs after it is dumped and read"
    return None


def _load_lazy(path: Path) -> Any:
    cfg = LazyConfig.load(str(path))
    if b"${" not in path.read_bytes():
        LazyConfig.to_py(cfg)
    if "model" in cfg:
        with contextlib.suppress(*_OF_CALLS):
            return instantiate(cfg.model)
    return None


# Wrong arguments are those of the function that is called; omegaconf names the key of a reference.
_OF_CALLS = (TypeError, ValueError, RuntimeError, KeyError, AttributeError, AssertionError)


_OVERRIDES = [
    ["SOLVER.BASE_LR", "0.01", "MODEL.MASK_ON", "True", "SOLVER.STEPS", "(1, 2)"],
    ["MODEL.WEIGHTS", "x.pth", "DATASETS.TRAIN", "('a',)", "OUTPUT_DIR", "./out"],
    ["MODEL.PIXEL_MEAN", "[1.0,2,3]", "INPUT.CROP.SIZE", "[0.9, 0.9]", "SEED", "-1"],
]
_LAZY_OVERRIDES = [
    ["model.in_features=5", "+model.bias=False", "~optimizer.betas", "size=7"],
    ["optimizer.params[0]=2", "optimizer.betas=[0.5,0.6]", "schedule.values=[1, {a: 2}]"],
]


def _override(path: Path) -> Any:
    cfg = get_cfg()
    cfg.merge_from_list(_words(path))
    return cfg


def _override_lazy(path: Path) -> Any:
    cfg = LazyConfig.load(str(path.with_name("lazy.yaml")))
    return LazyConfig.apply_overrides(cfg, _words(path))


def _words(path: Path) -> list[str]:
    return path.read_bytes().decode("utf-8", errors="surrogateescape").split("\n")


def _damaged_words(content: bytes, rng: random.Random) -> bytes:
    words = damage_value(content.decode().split("\n"), rng)
    words = words if isinstance(words, list) else [words]
    return "\n".join(map(str, words)).encode("utf-8", errors="surrogatepass")


# --- datasets


def _image(folder: Path, name: str = "a.png") -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)


def _coco() -> dict:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[2:6, 3:9] = 1
    rle = mask_util.encode(mask)
    polygon = [2.0, 2.0, 10.0, 2.0, 10.0, 8.0, 2.0, 8.5]
    return {
        "info": {"year": 2020},
        "images": [
            {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 2, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 3,
                "bbox": [2, 2, 8, 6],
                "area": 48.0,
                "iscrowd": 0,
                "segmentation": [polygon, [1, 1, 5, 1, 5, 5]],
                "keypoints": [3, 4, 2, 5, 6, 1],
            },
            {
                "id": 2,
                "image_id": 2,
                "category_id": 5,
                "bbox": [3.0, 2.0, 6.0, 4.0],
                "area": 24,
                "iscrowd": 0,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
                "keypoints": [3, 4, 2, 5, 6, 0],
            },
            {
                "id": 3,
                "image_id": 2,
                "category_id": 3,
                "bbox": [0, 0, 16, 12],
                "iscrowd": 1,
                "area": 192,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH - 5, 5]},
                "keypoints": [0, 0, 0, 0, 0, 0],
            },
        ],
        "categories": [
            {"id": 3, "name": "cat", "keypoints": ["l", "r"], "skeleton": [[1, 2]]},
            {"id": 5, "name": "dog"},
        ],
    }


def _as_json(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def _damaged_json(content: bytes, rng: random.Random) -> bytes:
    text = json.dumps(damage_value(json.loads(content), rng))
    return text.encode("utf-8", errors="surrogatepass")


def _coco_files(folder: Path) -> list[bytes]:
    _image(folder)
    return [_as_json(_coco())]


def _read_coco(path: Path) -> list[dict]:
    name = "fuzzed"
    MetadataCatalog.pop(name, None)
    dicts = load_coco_json(str(path), str(path.parent), name)
    for one in dicts:
        _map(one)
    return dicts


def _map(one: dict, masks: bool = True) -> dict | None:
    """What a loader makes of a dict, where the sample is good."""
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[],
        image_format="BGR",
        use_instance_mask=masks,
        instance_mask_format="bitmask",
        use_keypoint=False,
    )
    # Images that are not there or have another size are told by the loader, with their names.
    with contextlib.suppress(FileNotFoundError, ImageReadError, SizeMismatchError):
        try:
            return mapper(one)
        except ValueError as error:
            if "give it to all of them or to none" not in str(error):
                raise
    return None


def _odd_dicts(dicts: list[dict], seeds: list[bytes], values: bool) -> str | None:
    """Return what is wrong with a dataset that was read, if anything."""
    for one in dicts:
        for key in ("height", "width"):
            if key in one and not (isinstance(one[key], int) and one[key] > 0):
                return f"{key} {one[key]!r}"
        for annotation in one.get("annotations", ()):
            box = annotation["bbox"]
            if len(box) != 4 or not all(map(math.isfinite, box)):
                return f"box {box}"
            if not isinstance(annotation["category_id"], int):
                return f"category_id {annotation['category_id']!r}"
    return None


def _lvis_files(folder: Path) -> list[bytes]:
    _image(folder)
    (folder / "val").mkdir(exist_ok=True)
    _image(folder / "val")
    data = _coco()
    for image in data["images"]:
        image.pop("file_name")
        image["coco_url"] = "http://images.org/val/a.png"
        image["neg_category_ids"] = [3]
        image["not_exhaustive_category_ids"] = []
    for row in data["annotations"]:
        row["segmentation"] = [[2.0, 2.0, 10.0, 2.0, 10.0, 8.0]]
        del row["keypoints"], row["iscrowd"]
    for category, frequency in zip(data["categories"], "rf", strict=True):
        category["frequency"] = frequency
    return [_as_json(data)]


def _read_lvis(path: Path) -> list[dict]:
    MetadataCatalog.pop("fuzzed_l", None)
    dicts = load_lvis_json(str(path), str(path.parent), "fuzzed_l")
    for one in dicts:
        _map(one)
    return dicts


_PANOPTIC_META = {
    "thing_dataset_id_to_contiguous_id": {1: 0},
    "stuff_dataset_id_to_contiguous_id": {2: 0},
}


def _panoptic_files(folder: Path) -> list[bytes]:
    _image(folder)
    segments = [
        {"id": 7, "category_id": 1, "iscrowd": 0, "area": 20, "bbox": [1, 2, 3, 4]},
        {"id": 300, "category_id": 2, "iscrowd": 0, "area": 50, "bbox": [0, 0, 16, 12]},
    ]
    row = {"image_id": 5, "file_name": "a.png", "segments_info": segments}
    return [_as_json({"annotations": [row, {**row, "image_id": "000006"}], "images": []})]


def _read_panoptic(path: Path) -> list[dict]:
    folder = str(path.parent)
    return load_coco_panoptic_json(str(path), folder, folder, _PANOPTIC_META)


_XML = f"""<?xml version="1.0" encoding="utf-8"?>
<annotation><folder>x</folder><filename>a.png</filename>
<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>
<object><name>cat</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9.5</xmax><ymax>8</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>
</object></annotation>"""


def _voc_files(folder: Path) -> list[bytes]:
    root = folder.parent
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    (root / "JPEGImages").mkdir(exist_ok=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    _image(root / "JPEGImages", "a.png")
    bomb = (
        '<!DOCTYPE a [<!ENTITY b "xxxxxxxxxx"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">'
        '<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">]>'
    )
    return [_XML.encode(), _XML.replace("<annotation>", f"{bomb}<annotation>").encode()]


def _damaged_xml(content: bytes, rng: random.Random) -> bytes:
    root = ET.fromstring(content)
    elements = list(root.iter())
    for _ in range(rng.choice((1, 1, 2))):
        one, other = rng.choice(elements), rng.choice(elements)
        change = rng.randrange(5)
        if change == 0:
            one.text = rng.choice(
                ("", "-1", "1e400", "nan", "5e9", "0", "x" * 50, "\u202e", "1" * 5000)
            )
        elif change == 1:
            one.text, other.text = other.text, one.text
        elif change == 2 and len(one):
            one.remove(one[rng.randrange(len(one))])
        elif change == 3 and len(one):
            one.append(one[rng.randrange(len(one))])
        else:
            one.tag = other.tag
    return ET.tostring(root)


def _read_voc(path: Path) -> list[dict]:
    dicts = load_voc_instances(str(path.parents[1]), "train", ["cat", "dog"])
    for one in dicts:
        _map(one, masks=False)
    return dicts


def _cityscapes_files(folder: Path) -> list[bytes]:
    root = folder.parents[1]
    images = root / "images" / "city"
    images.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(
        images / "city_000001_000001_leftImg8bit.png"
    )
    data = {
        "imgHeight": HEIGHT,
        "imgWidth": WIDTH,
        "objects": [
            {"label": "road", "polygon": [[0, 0], [15, 0], [15, 11], [0, 11]]},
            {"label": "car", "polygon": [[1, 1], [6, 1], [6, 6], [1, 6]]},
            {"label": "cargroup", "polygon": [[5, 5], [9, 5], [9, 9]]},
        ],
    }
    return [_as_json(data)]


def _read_cityscapes(path: Path) -> list[dict]:
    root = path.parents[2]
    return load_cityscapes_instances(str(root / "images"), str(root / "gt"), from_json=True)


def _annotations(folder: Path) -> list[bytes]:
    rows = _coco()["annotations"]
    return [_as_json({**row, "bbox_mode": 1}) for row in rows]


def _read_annotation(path: Path) -> Any:
    """The values of an annotation alone: boxes, polygons, masks, keypoints."""
    try:
        annotation = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(annotation, dict):
        return None
    found = normalize_annotation(annotation, (HEIGHT, WIDTH))
    if isinstance(found, dict) and isinstance(found.get("segmentation"), dict):
        mask = mask_util.decode(found["segmentation"])
        assert mask.shape == (HEIGHT, WIDTH)
        found["mask"] = mask
    return found


# --- layouts of folders, as `d2lite train --data` reads them


def _layout_reader(layout: str, file: str) -> Reader:
    """A folder of a layout with one damaged file; told by looking, as long as that is possible."""

    def root_of(folder: Path) -> Path:
        return Path(folder, *[".."] * file.count("/")).resolve()

    def good_files(folder: Path) -> list[bytes]:
        root = root_of(folder)
        outline = [{"segmentation": [tiny.SQUARE], "keypoints": [10.5, 11.25, 2, 20.5, 20.5, 1]}]
        points = {"keypoint_names": ["left", "right"], "keypoint_flip_map": [("left", "right")]}
        splits = {"train": ["a.png", "b.png"], "val": ["c.png"]}
        contents = []
        for name, more, keypoints in (("boxes", {}, {}), ("outlines", outline[0], points)):
            rows = [tiny.thing(0, **more), tiny.thing(1, (0.5, 3.25, 63, 40), **more)]
            beside = root.with_name(name)
            data = tiny.labeled(beside, lambda _, rows=rows: rows, splits, keypoints=keypoints)
            write_folder(data, str(beside / "data"), layout)
            contents.append((beside / "data" / file).read_bytes())
        shutil.copytree(beside / "data", root, dirs_exist_ok=True)
        # Keypoints are read as YOLO's yaml file says, so that its labels are of one kind.
        return contents[1:] if layout == "yolo" else contents

    def read(path: Path) -> list[dict]:
        root = root_of(path.parent)
        try:
            try:
                data = read_folder(str(root))
            except ArgumentError as error:
                assert str(root) in str(error), "an error without the name of the folder"
                data = read_folder(str(root), layout)
            data.metadata()
        except (ValueError, OSError) as error:
            assert str(root) in str(error), f"an error without the name of a file: {error}"
            raise
        for one in data.records():
            _map(one)
        return data.records()

    damage = {".json": _damaged_json, ".xml": _damaged_xml, ".yaml": _damaged_yaml}
    return Reader(
        f"data/{file}",
        good_files,
        read,
        (ValueError, OSError),
        damage.get(Path(file).suffix, _damaged_table),
        _odd_dicts,
        names_file=False,
    )


def _damaged_table(content: bytes, rng: random.Random) -> bytes:
    """Change cells of lines of text, which commas or spaces part."""
    text = content.decode()
    separator = "," if "," in text else " "
    rows = damage_value([line.split(separator) for line in text.splitlines()], rng, _CELLS)
    lines = [separator.join(map(str, row)) if isinstance(row, list) else str(row) for row in rows]
    return "\n".join(lines).encode("utf-8", errors="surrogatepass")


_CELLS = ["", "-1", "0", "1e400", "nan", "inf", "5e9", "9" * 5000, "x" * 300, '"', "../up.png",
          "\0", "\u202e", "0x10", "1_000", "\u0664", "a.png", "cat", "True"]  # fmt: skip


# --- images


def _image_files(folder: Path) -> list[bytes]:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    deep = rng.integers(0, 2**16, (HEIGHT, WIDTH), dtype=np.uint16)
    color = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for options in (
        {"format": "JPEG", "exif": exif},
        {"format": "JPEG", "progressive": True},
        {"format": "PNG"},
        {"format": "BMP"},
        {"format": "GIF"},
        {"format": "TIFF", "compression": "tiff_lzw"},
        {"format": "WEBP", "lossless": True},
        {"format": "PPM"},
    ):
        file = io.BytesIO()
        color.save(file, **options)
        files.append(file.getvalue())
    for image in (
        Image.fromarray(deep),
        color.convert("P"),
        color.convert("1"),
        color.convert("LA"),
    ):
        file = io.BytesIO()
        image.save(file, "PNG")
        files.append(file.getvalue())
    files.append(
        cv2.imencode(".png", rng.integers(0, 2**16, (HEIGHT, WIDTH, 3), dtype=np.uint16))[
            1
        ].tobytes()
    )
    file = io.BytesIO()
    Image.fromarray(rng.random((HEIGHT, WIDTH), dtype=np.float32)).save(file, "TIFF")
    files.append(file.getvalue())
    return files


_FORMATS = ("RGB", "BGR", "L", None, "YUV-BT.601")


def _read_image(path: Path) -> Any:
    """Read it in every way; the errors must agree that it is not right."""
    content = path.read_bytes()
    format = _FORMATS[len(content) % len(_FORMATS)]
    expected = {"height": HEIGHT, "width": WIDTH, "file_name": str(path)}
    with contextlib.suppress(ImageReadError):
        read_labels(str(path), expected=expected)
    with contextlib.suppress(ImageReadError):
        read_image_size(str(path))
    return format, read_image(str(path), format, expected=expected)


def _odd_image(found: Any, seeds: list[bytes], values: bool) -> str | None:
    format, pixels = found
    if format is None:
        return None if pixels.ndim in (2, 3) else f"{pixels.shape}"
    channels = 1 if format == "L" else 3
    dtype = np.float32 if format == "YUV-BT.601" else np.uint8
    sides = sorted(pixels.shape[:2])
    good = sides == [HEIGHT, WIDTH] and pixels.shape[2:] == (channels,) and pixels.dtype == dtype
    return None if good else f"an image of {pixels.dtype} {pixels.shape} as {format}"


# --- files of a run


def _metrics(folder: Path) -> list[bytes]:
    lines = [json.dumps({"iteration": i, "loss": 1 / (i + 1), "lr": 0.1}) for i in range(6)]
    return ["\n".join(lines).encode() + b"\n"]


def _damaged_lines(content: bytes, rng: random.Random) -> bytes:
    rows = damage_value([json.loads(line) for line in content.splitlines()], rng)
    rows = rows if isinstance(rows, list) else [rows]
    return "\n".join(map(json.dumps, rows)).encode() + b"\n"


def _drop_lines(path: Path) -> Any:
    last = drop_json_lines_from(4, str(path))
    return last, path.read_bytes()


def _odd_lines(found: Any, seeds: list[bytes], values: bool) -> str | None:
    last, content = found
    for line in content.decode().splitlines():
        if not json.loads(line)["iteration"] < 4:
            return f"the line {line!r} is left"
    return None if isinstance(last, int) and last < 4 else f"last iteration {last!r}"


def _last_checkpoint(folder: Path) -> list[bytes]:
    return [b"model_0000005.pth", b"model_final.pth"]


def _read_last_checkpoint(path: Path) -> str:
    checkpointer = DetectionCheckpointer(nn.Linear(1, 1), str(path.parent))
    return checkpointer.get_checkpoint_file()


def _in_its_folder(found: str, seeds: list[bytes], values: bool) -> str | None:
    inside = os.path.dirname(os.path.realpath(found)) == os.path.realpath(os.getcwd())
    return None if found == "" or inside else f"it leads to {found!r}"


def _best(folder: Path) -> list[bytes]:
    return [_as_json({"metric": 0.5, "iteration": 2, "name": "box/AP"})]


def _read_best(path: Path) -> Any:
    checkpointer = DetectionCheckpointer(nn.Linear(1, 1), str(path.parent))
    best = hooks.BestCheckpointer(2, checkpointer, "box/AP")
    trainer = SimpleTrainer(nn.Linear(1, 1), [], None)
    trainer.start_iter = trainer.iter = 3
    trainer.storage = type("Storage", (), {"evaluated_iter": -1, "iter": 3})()
    best.trainer = trainer
    best.before_train()
    return best.best_metric, best.best_iter


def _odd_best(found: Any, seeds: list[bytes], values: bool) -> str | None:
    metric, iteration = found
    if metric is None and iteration is None:
        return None
    numbers = isinstance(metric, int | float) and math.isfinite(metric)
    return None if numbers and type(iteration) is int else f"{found!r}"


def _lock(folder: Path) -> list[bytes]:
    return [_as_json({"host": "a", "pid": 5, "since": "2020-01-01T00:00:00+00:00"})]


def _claim(path: Path) -> None:
    claim_output_dir(str(path.parent), new_run=False)
    release_output_dir(str(path.parent))


def _events(folder: Path) -> list[bytes]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    file.flush = lambda: None
    writer = RecordWriter(file)
    writer.write(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())
    for step in range(6):
        summary = Summary(value=[Summary.Value(tag="loss", simple_value=0.5)])
        writer.write(Event(wall_time=2.0, step=step, summary=summary).SerializeToString())
    return [file.getvalue()]


def _drop_events(path: Path) -> dict[str, int]:
    last = drop_event_records_from(4, str(path.parent))
    assert all(step < 4 for step in last.values())
    for extra in path.parent.iterdir():
        if extra != path:
            extra.unlink()
    return last


# --- downloads

_BODY = bytes(range(256)) * 4
_HASHED = "weights-e1b54ff5.pth"


def _answers(folder: Path) -> list[bytes]:
    import hashlib

    digest = hashlib.sha256(_BODY).hexdigest()[:8]
    global _HASHED
    _HASHED = f"weights-{digest}.pth"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
    length = f"Content-Length: {len(_BODY)}\r\n".encode()
    chunks = b"".join(
        f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (_BODY[:500], _BODY[500:], b"")
    )
    return [
        head + length + b'ETag: "a"\r\n\r\n' + _BODY,
        head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
        head + b"Connection: close\r\n\r\n" + _BODY,
        b"HTTP/1.1 302 Found\r\nLocation: /" + _HASHED.encode() + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n",
    ]


class _Server:
    """Sends the bytes of a file to whoever connects, and closes."""

    _running: "_Server | None" = None

    def __init__(self) -> None:
        self.content = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    @classmethod
    def running(cls) -> "_Server":
        cls._running = cls._running or cls()
        return cls._running

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(2**16)
                connection.sendall(self.content)


def _download(path: Path) -> bytes | None:
    server = _Server.running()
    server.content = path.read_bytes()
    downloads.TRIES = 2
    downloads.SECONDS_WITHOUT_DATA = 5.0
    target = path.with_name("stored")
    try:
        downloads.download(f"http://127.0.0.1:{server.port}/{_HASHED}", target)
        return target.read_bytes()
    finally:
        target.unlink(missing_ok=True)
        assert not target.with_name("stored.partial").exists()


def _other_bytes(found: bytes, seeds: list[bytes], values: bool) -> str | None:
    return None if found == _BODY else "other bytes were stored"


_CHECKPOINT = (CheckpointFileError,)
_CONFIG = (
    ConfigFileError,
    ConfigTypeError,
    ConfigVersionError,
    ConfigYamlError,
    UnknownKeyError,
)
_DATASET = (ValueError, FileNotFoundError)

READERS: dict[str, Reader] = {
    "checkpoint": Reader(
        "model.pth",
        lambda folder: [_saved(_weights()), _saved({"w": torch.arange(4.0)})],
        _read_checkpoint,
        _CHECKPOINT,
        _damaged_checkpoint,
        _other_weights,
    ),
    "checkpoint before torch 1.6": Reader(
        "model.pth",
        lambda folder: [_saved(_weights(), legacy=True)],
        _read_checkpoint,
        _CHECKPOINT,
        _damaged_checkpoint,
    ),
    "weights into a model": Reader(
        "model.pth",
        lambda folder: [_saved(_weights()), _saved(_model().state_dict())],
        _load_into_model,
        _CHECKPOINT,
        _damaged_checkpoint,
    ),
    "pickled weights into a model": Reader(
        "model.pkl",
        lambda folder: [_detectron2_pickle(), _caffe2_pickle()],
        _load_into_model,
        _CHECKPOINT,
        _damaged_pickle,
    ),
    "checkpoint of a run": Reader(
        "model_0000005.pth",
        _checkpoints_of_a_run,
        _resume,
        # The last one is due to a weight that is huge but finite.
        (CheckpointFileError, ResumeError, NonFiniteError),
        _damaged_run,
        _not_finite,
        names_file=False,
    ),
    "proposals": Reader(
        "proposals.pkl", _proposals, _read_proposals, (ValueError,), _damaged_pickle, _odd_proposals
    ),
    "yaml config": Reader("a.yaml", _yaml_files, _merge, _CONFIG, _damaged_yaml, _odd_config),
    "yaml lazy config": Reader(
        "a.yaml",
        lambda folder: [_LAZY_YAML.encode(), _LAZY_YAML.replace("${size}", "4").encode()],
        _load_lazy,
        (*_CONFIG, ImportError),
        _damaged_yaml,
    ),
    "overrides": Reader(
        "words",
        lambda folder: ["\n".join(words).encode() for words in _OVERRIDES],
        _override,
        (UnknownKeyError, ConfigTypeError, AssertionError),
        _damaged_words,
        names_file=False,
    ),
    "overrides of a lazy config": Reader(
        "words",
        lambda folder: (
            (folder / "lazy.yaml").write_text(_LAZY_YAML)
            and ["\n".join(words).encode() for words in _LAZY_OVERRIDES]
        ),
        _override_lazy,
        (KeyError, ValueError),
        _damaged_words,
        names_file=False,
    ),
    "COCO": Reader("a.json", _coco_files, _read_coco, _DATASET, _damaged_json, _odd_dicts),
    "LVIS": Reader("a.json", _lvis_files, _read_lvis, _DATASET, _damaged_json, _odd_dicts),
    "panoptic": Reader("a.json", _panoptic_files, _read_panoptic, _DATASET, _damaged_json),
    "VOC": Reader("Annotations/a.xml", _voc_files, _read_voc, _DATASET, _damaged_xml, _odd_dicts),
    "Cityscapes": Reader(
        "gt/city/city_000001_000001_gtFine_polygons.json",
        _cityscapes_files,
        _read_cityscapes,
        _DATASET,
        _damaged_json,
        _odd_dicts,
    ),
    **{
        f"{LAYOUTS[layout].title}: {file.rpartition('/')[2]}": _layout_reader(layout, file)
        for layout, file in (
            ("coco", "annotations/instances_train.json"),
            ("roboflow", "train/_annotations.coco.json"),
            ("voc", "Annotations/a.xml"),
            ("labelimg", "train/a.xml"),
            ("yolo", "labels/train/a.txt"),
            ("yolo", "data.yaml"),
            ("csv", "train.csv"),
            ("csv", "classes.csv"),
            ("via", "train/via_region_data.json"),
            ("labelme", "train/a.json"),
            ("cvat", "annotations.xml"),
            ("open_images", "train-annotations-bbox.csv"),
            ("open_images", "class-descriptions-boxable.csv"),
        )
    },
    "annotation": Reader(
        "a.json",
        _annotations,
        _read_annotation,
        (AnnotationError,),
        _damaged_json,
        names_file=False,
    ),
    "image": Reader(
        "image",
        _image_files,
        _read_image,
        (ImageReadError, SizeMismatchError),
        None,
        _odd_image,
    ),
    "metrics.json": Reader("metrics.json", _metrics, _drop_lines, (), _damaged_lines, _odd_lines),
    "last_checkpoint": Reader(
        "last_checkpoint",
        _last_checkpoint,
        _read_last_checkpoint,
        _CHECKPOINT,
        None,
        _in_its_folder,
    ),
    "model_best.json": Reader(
        "model_best.json", _best, _read_best, _CHECKPOINT, _damaged_json, _odd_best
    ),
    "lock": Reader("run.lock", _lock, _claim, (), _damaged_json),
    "event file": Reader("events.out.tfevents.1.a", _events, _drop_events, ()),
    "download": Reader(
        "answer", _answers, _download, (downloads.DownloadError,), None, _other_bytes, False, False
    ),
}
