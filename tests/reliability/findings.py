"""What the fuzzers and attackers have found: each reader, and changes of its first good file.

Every entry once raised an error of another class, without the name of its file or in many lines;
took time or memory without end; or was read to something wrong.
"""

import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["FINDINGS"]

Change = Callable[[bytes], bytes]


def as_is(content: bytes | str) -> Change:
    """Another file in place of the good one."""
    return lambda good: content if isinstance(content, bytes) else content.encode()


def replaced(old: str | bytes, new: str | bytes) -> Change:
    """The good file with other bytes in it."""
    old, new = (x if isinstance(x, bytes) else x.encode() for x in (old, new))

    def change(good: bytes) -> bytes:
        assert old in good, f"{old!r} is not in the file"
        return good.replace(old, new, 1)

    return change


def saved(*path: Any, value: Any) -> Change:
    """A checkpoint with another value at a place; `...` as the value takes the entry out."""

    def change(good: bytes) -> bytes:
        data = torch.load(io.BytesIO(good), weights_only=False)
        _put(data, path, value)
        file = io.BytesIO()
        torch.save(data, file)
        return file.getvalue()

    return change


def pickled(*path: Any, value: Any) -> Change:
    """The same of a pickle."""

    def change(good: bytes) -> bytes:
        data = pickle.loads(good)
        _put(data, path, value)
        return pickle.dumps(data)

    return change


def in_json(*path: Any, value: Any) -> Change:
    """The same of a JSON file."""

    def change(good: bytes) -> bytes:
        data = json.loads(good)
        _put(data, path, value)
        return json.dumps(data).encode()

    return change


def _put(data: Any, path: tuple, value: Any) -> None:
    *groups, last = path
    for key in groups:
        data = data[key]
    if value is ...:
        del data[last]
    else:
        data[last] = value


def png(width: int, height: int, text: bytes = b"") -> bytes:
    """The head of a gray PNG of any size, with no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [
        (b"IHDR", head),
        (b"zTXt", text),
        (b"IDAT", zlib.compress(b"\0" * 100)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
        if data or kind == b"IEND"
    )


_STORAGE = ("trainer", "storage", "lr")
_ADAM = ("trainer", "optimizer", "state", 0)
_GROUP = ("trainer", "optimizer", "param_groups", 0)
_BEST = ("trainer", "resume", "BestCheckpointer")

FINDINGS: dict[str, dict[str, Change]] = {
    "checkpoint": {
        "name with a line break": replaced(b"collections", b"collect\nons"),
        "iteration of many digits": saved("iteration", value=10**400),
    },
    "weights into a model": {
        "weights that are a text": saved("model", value="text"),
        "an array of texts": saved("model", "0.bias", value=np.array(["a", "b"])),
        "what it says of itself is cut": saved("about", "config", value=...),
    },
    "pickled weights into a model": {
        "blobs that are a number": as_is(pickle.dumps({"blobs": 5})),
        "weights that are an array": as_is(pickle.dumps({"model": np.zeros(3)})),
        "names that are numbers": as_is(pickle.dumps({"blobs": {5: np.zeros(3)}})),
    },
    "checkpoint of a run": {
        "history without hint": saved(*_STORAGE, "smoothing_hint", value=...),
        "other hint": saved("trainer", "storage", "total_loss", "smoothing_hint", value=False),
        "history that is a number": saved(*_STORAGE, value=3),
        "values that are a list": saved(*_STORAGE, "values", value=[1.0]),
        "iterations of another length": saved(*_STORAGE, "iterations", value=torch.arange(2)),
        "latest value alone": saved(*_STORAGE, "latest", value=(1.0,)),
        "count of none": saved(*_STORAGE, "count", value=-1),
        "storage that is a list": saved("trainer", "storage", value=[1]),
        "count of a schedule that is nothing": saved(
            "trainer", "hooks", "LRScheduler", "_step_count", value=None
        ),
        "storage that is an empty text": saved("trainer", "storage", value=""),
        "iteration that is no whole number": saved("trainer", "iteration", value=3.5),
        "no iteration": saved("trainer", "iteration", value=...),
        "best metric that is a list": saved(*_BEST, "metric", value=[0.5]),
        "no best metric": saved(*_BEST, value={}),
        "moment that is nothing": saved(*_ADAM, "exp_avg", value=None),
        "moment that is a text": saved(*_ADAM, "exp_avg", value="text"),
        "moment that is not finite": saved(
            *_ADAM, "exp_avg_sq", value=torch.full((2, 3), torch.nan)
        ),
        "no second moment": saved(*_ADAM, "exp_avg_sq", value=...),
        "step that is negative": saved(*_ADAM, "step", value=torch.tensor(-3.0)),
        "one beta": saved(*_GROUP, "betas", value=[0.9]),
        "rate that is false": saved(*_GROUP, "lr", value=False),
        "setting that is a number": saved(*_GROUP, "differentiable", value=0.0001),
        "no rate": saved(*_GROUP, "lr", value=...),
        "rate that is a text": saved(*_GROUP, "lr", value="fast"),
        "rate that is not a number": saved(*_GROUP, "lr", value=float("nan")),
        "moments that are not there": saved(*_GROUP, "amsgrad", value=True),
        "for GPUs only": saved(*_GROUP, "capturable", value=True),
        "parameters in another order": saved(*_GROUP, "params", value=[1, 0, 2, 3]),
        "groups that are a number": saved("trainer", "optimizer", "param_groups", value=1),
        "schedule without state": saved("trainer", "hooks", "LRScheduler", value=7),
        "schedule that counts with text": saved(
            "trainer", "hooks", "LRScheduler", "last_epoch", value="3"
        ),
        "trainer that is a list": saved("trainer", value=[]),
        "position that is a text": saved("trainer", "data_loader", "position", value="5"),
        "layout with a line break": saved(
            "trainer", "optimizer_layout", "names", value=[["net\n0.bias"]]
        ),
    },
    "proposals": {
        "ids that are a number": pickled("ids", value=5),
        "fewer boxes than ids": pickled("boxes", value=[np.zeros((3, 4))]),
        "boxes that are a number": pickled("boxes", value=5),
        "one box in place of a list": pickled("boxes", value=np.zeros(4)),
        "logits that are a number": pickled("objectness_logits", value=[np.float32(1), 2]),
        "boxes of texts": pickled("boxes", value=[np.array([["a"] * 4] * 3), np.zeros((2, 4))]),
        "boxes that are not finite": pickled("boxes", value=[np.full((3, 4), np.nan)] * 2),
        "one box of three sides for no logits": lambda good: pickled(
            "boxes", value=[np.zeros(3), np.zeros((2, 4))]
        )(pickled("objectness_logits", value=[[], np.zeros(2)])(good)),
        "unknown mode": pickled("bbox_mode", value=77),
        "name with a line break": as_is(b"cd2lite.struct\nures.boxes\nBoxMode\n."),
    },
    "yaml config": {
        "key that is a number": as_is("MODEL: {5: 2020-01-01}"),
        "version that is a group": as_is("VERSION: {a: 1}"),
        "version below zero": as_is("VERSION: -1"),
        "version that is a text": as_is("VERSION: 'two'"),
        "base with a line break": as_is('_BASE_: "a\\nb"'),
        "base with a name that is too long": as_is(f"_BASE_: {'x' * 300}"),
        "base that is a folder": as_is("_BASE_: ."),
        "base that is a device": as_is("_BASE_: /dev/zero"),
    },
    "yaml lazy config": {
        "keys of two kinds": as_is("model: {_target_: torch.nn.Identity, a: {1: 2, b: 3}}"),
        "argument that is a number": as_is("model: {_target_: torch.nn.Identity, 5: 1, a: 2}"),
        "target that is not there": as_is("model: {_target_: torch.nn.Lin9ar}"),
        "target that is a call": as_is("model: {_target_: {_target_: torch.nn.Identity}}"),
        "target that is a module": as_is("model: {_target_: torch.nn.modules}"),
        "broken reference": as_is("model: {a: '${'}"),
        "a resolver that makes text into entries": as_is("model: ${oc.decode:'{a: 1}'}"),
        "list at the top": as_is("[1, 2]"),
    },
    "overrides of a lazy config": {
        "a group into a list": as_is("schedule.values={a: 1}"),
        "removing what is not there": as_is("~optimizer.r.r.betas"),
        "index that is too large": as_is("optimizer.params[9]=2"),
        "broken reference": as_is("size=${"),
        "nothing": as_is("="),
        "key of thousands of letters": as_is(f"size.{'x' * 3000}=1"),
        "single value of thousands of letters": as_is(f"size={'x' * 3000}\nsize.a.b=1"),
    },
    "overrides": {
        "key of thousands of letters": as_is(f"SOLVER.{'x' * 3000}\n1"),
        "value of thousands of letters": as_is(f"SOLVER.BASE_LR\n{'x' * 3000}"),
    },
    "COCO": {
        "lists in lists": as_is("[" * 100_000),
        "number of many digits": as_is('{"images": ' + "9" * 10_000 + "}"),
        "category that is a list": in_json("annotations", 0, "category_id", value=[3]),
        "image id that is a list": in_json("annotations", 0, "image_id", value=[1]),
        "name that is a number": in_json("images", 0, "file_name", value=5),
        "polygon at the end of the world": in_json(
            "annotations", 0, "segmentation", value=[[1e10] * 6]
        ),
        "polygon of nothing": in_json("annotations", 0, "segmentation", value=[[None] * 6]),
        "polygon that is not finite": in_json(
            "annotations", 0, "segmentation", value=[[float("nan")] * 6]
        ),
        "mask of more pixels than memory": in_json(
            "annotations", 1, "segmentation", value={"size": [60000, 60000], "counts": [36 * 10**8]}
        ),
        "runs that add up by overflow": in_json(
            "annotations",
            1,
            "segmentation",
            value={"size": [12, 16], "counts": [2**63, 2**63, 192]},
        ),
        "runs of negative length": in_json(
            "annotations", 1, "segmentation", value={"size": [12, 16], "counts": [-5, 197]}
        ),
        "size of an image that is a text": in_json("images", 0, "height", value="12"),
        "size of an image beyond all": in_json("images", 0, "height", value=1e300),
        "names that control a terminal": in_json("categories", 0, "name", value="\x1b[2Jcat"),
    },
    "panoptic": {
        "file name that is a number": in_json("annotations", 0, "file_name", value=5),
        "segments that are numbers": in_json("annotations", 0, "segments_info", value=[5]),
        "image id that is a list": in_json("annotations", 0, "image_id", value=[1]),
    },
    "LVIS": {
        "address that is a number, of an image with a line break": lambda good: in_json(
            "images", 0, "coco_url", value=0.5
        )(in_json("images", 0, "id", value="a\nb")(good)),
        "name with a null": in_json("images", 0, "coco_url", value="http://a/val/a\0.png"),
    },
    "VOC": {
        "class of thousands of letters": replaced("<name>cat<", f"<name>{'c' * 5000}<"),
        "number of many digits": replaced("<ymin>3</ymin>", f"<ymin>{'1' * 5000}</ymin>"),
        "image that is larger than any": replaced("<height>12<", "<height>5e9<"),
        "unknown encoding": replaced('encoding="utf-8"', 'encoding="utf-7"'),
        "entities of entities": as_is(
            "<!DOCTYPE a [<!ENTITY l0 'xxxxxxxxxx'>"
            + "".join(f"<!ENTITY l{i} '{f'&l{i - 1};' * 10}'>" for i in range(1, 12))
            + "]><annotation><object><name>&l11;</name></object></annotation>"
        ),
        "entity from a file": as_is(
            "<!DOCTYPE a [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><annotation><size>"
            "<width>16</width><height>12</height></size><object><name>&f;</name></object></annotation>"
        ),
        "elements in elements": as_is("<a>" * 50_000),
    },
    "Cityscapes": {
        "no objects": in_json("objects", value=...),
        "object that is a text": in_json("objects", 0, value="road"),
        "label that is a number": in_json("objects", 0, "label", value=5),
        "no polygon": in_json("objects", 1, "polygon", value=...),
        "polygon of unequal points": in_json("objects", 1, "polygon", value=[[1, 1], [2]]),
        "polygon at the end of the world": in_json(
            "objects", 1, "polygon", value=[[1e30, 0], [0, 1e30], [5, 5]]
        ),
        "size that is a text": in_json("imgHeight", value="tall"),
    },
    "COCO JSON: instances_train.json": {
        "id of a missing image that is a list": lambda good: in_json(
            "images", 0, "file_name", value="other.png"
        )(in_json("images", 0, "id", value=[1])(good)),
    },
    "CSV: classes.csv": {
        "number of many digits": replaced(",0", f",{'1' * 5000}"),
    },
    "Open Images: train-annotations-bbox.csv": {
        "number of many digits": replaced("0.125", "9" * 5000),
    },
    "LabelMe: a.json": {
        "line break in the name of a shape without points": as_is(
            '{"imagePath": "a.png", "imageHeight": 48, "imageWidth": 64, '
            '"shapes": [{"label": "a\\nb", "points": [[8, [32]]], "shape_type": "rectangle"}]}'
        ),
    },
    "YOLO: data.yaml": {
        "names of two kinds": replaced("0: cat", "a: cat"),
        "flips of two kinds": replaced("flip_idx: [1, 0]", "flip_idx: ['1', 0]"),
        "more keypoints than memory": replaced("kpt_shape: [2, 3]", f"kpt_shape: [{2**53}, 3]"),
    },
    "image": {
        "more pixels than memory": as_is(png(60_000, 60_000)),
        "more pixels than the dataset says": as_is(png(12_000, 12_000)),
        "PostScript": as_is(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 12\nshowpage\n"),
        "text that unpacks without end": as_is(
            png(16, 12, b"k\0\0" + zlib.compress(b"x" * 50_000_000))
        ),
    },
    "metrics.json": {
        "bytes that are no text": replaced(b'"loss"', b'"l\xffss"'),
        "iteration that is a text": replaced('"iteration": 2', '"iteration": "2"'),
        "lists in lists": replaced('{"iteration": 2', "[" * 100_000),
        "line that is a number": as_is("5\n"),
    },
    "model_best.json": {
        "half of it": as_is('{"metric": 0.5, "iter'),
        "bytes that are no text": as_is(b"\xff\xfe\xfd"),
        "metric that is a text": in_json("metric", value="good"),
        "metric that is not finite": in_json("metric", value=float("inf")),
        "no iteration": in_json("iteration", value=...),
        "list": as_is("[]"),
    },
    "lock": {"lists in lists": as_is("[" * 100_000), "bytes that are no text": as_is(b"\xff")},
    "last_checkpoint": {
        "another folder": as_is("../model_0000005.pth"),
        "absolute": as_is("/etc/passwd"),
        "with a null": as_is("model\0.pth"),
        "endless": as_is("x" * 100_000),
    },
    "download": {
        "redirection without end": as_is(
            "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"
        ),
        "redirection to a file": as_is(
            "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"
        ),
        "chunk of negative length": as_is(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n0\r\n\r\n"
        ),
        "chunk larger than memory": as_is(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\nabc"
        ),
        "length that is no number": as_is("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc"),
        "more headers than any": as_is("HTTP/1.1 200 OK\r\n" + "A: b\r\n" * 5000),
        "endless header": as_is("HTTP/1.1 200 OK\r\nA: " + "b" * 10**6),
        "nothing": as_is(""),
        "web page": as_is("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<!DOCTYPE html>"),
    },
}
