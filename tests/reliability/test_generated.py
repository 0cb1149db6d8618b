"""Generated values where the structure of a file is known: hypothesis looks for the smallest.

D2LITE_FUZZ_COUNT and D2LITE_FUZZ_SEED set how many values each test gets, and which.
"""

import json
import os
import pickle

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
import yaml

from d2lite.checkpoint.reading import CheckpointFileError, read_checkpoint_file
from d2lite.config import get_cfg
from d2lite.config.errors import ConfigTypeError, UnknownKeyError
from d2lite.data.annotations import AnnotationError, normalize_annotation
from d2lite.data.datasets import load_coco_json
from tests.reliability.readers import _CONFIG, _coco, _equal, _image

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
given, seed = hypothesis.given, hypothesis.seed

few = hypothesis.settings(
    max_examples=int(os.environ.get("D2LITE_FUZZ_COUNT", 50)),
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
seeded = seed(int(os.environ.get("D2LITE_FUZZ_SEED", 0)))

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([2**31, 2**63, -1, 1e300, "\x1b[2J", "../x", ""]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


def places(value, path=()):
    """The paths of all that stands in nested dicts and lists."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*path, key)
        if isinstance(value[key], dict | list):
            yield from places(value[key], (*path, key))


PLACES = list(places(_coco()))


@few
@seeded
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_any_value_anywhere_in_a_coco_file(tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("coco")
    _image(folder)
    data = _coco()
    group = data
    for key in place[:-1]:
        group = group[key]
    group[place[-1]] = value
    path = folder / "a.json"
    path.write_text(json.dumps(data), encoding="utf-8", errors="surrogatepass")
    try:
        records = load_coco_json(str(path), str(folder))
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
        assert "a.json" in message and "\n" not in message.strip() and len(message) < 1500
        return
    for record in records:
        assert record["height"] > 0 and record["width"] > 0
        for annotation in record["annotations"]:
            assert len(annotation["bbox"]) == 4 and np.isfinite(annotation["bbox"]).all()


@few
@seeded
@given(data=st.data(), height=st.integers(1, 20), width=st.integers(1, 20))
def test_masks_come_back_from_both_forms_of_rle(data, height, width):
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits, dtype=np.uint8).reshape(height, width)
    compressed = mask_util.encode(np.asfortranarray(mask))
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges.tolist(), flat.size]).tolist()
    plain = {"size": [height, width], "counts": [0, *runs] if flat[0] else runs}
    for rle in (compressed, plain):
        found = normalize_annotation({"segmentation": rle}, (height, width))
        np.testing.assert_array_equal(mask_util.decode(found["segmentation"]), mask)


@few
@seeded
@given(
    counts=st.one_of(
        st.text(st.characters(min_codepoint=32, max_codepoint=127), max_size=20),
        st.lists(st.integers(), max_size=8),
        VALUES,
    ),
    size=st.one_of(st.just([6, 7]), VALUES),
)
def test_any_rle_is_a_mask_of_its_image_or_an_error(counts, size):
    rle = {"size": size, "counts": counts}
    try:
        found = normalize_annotation({"segmentation": rle}, (6, 7))
    except AnnotationError:
        return
    assert mask_util.decode(found["segmentation"]).shape == (6, 7)


@few
@seeded
@given(polygons=st.one_of(VALUES, st.lists(st.lists(st.floats(), max_size=12), max_size=3)))
def test_any_polygons_become_a_mask_or_an_error(polygons):
    from d2lite.structures import polygons_to_bitmask

    try:
        found = normalize_annotation({"segmentation": polygons}, (6, 7))
    except AnnotationError:
        return
    if isinstance(found, dict) and isinstance(found.get("segmentation"), list):
        assert polygons_to_bitmask(found["segmentation"], 6, 7).shape == (6, 7)


def _keys(node, prefix=""):
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")


KEYS = sorted(_keys(get_cfg()))


@few
@seeded
@given(
    pairs=st.lists(
        st.tuples(
            st.one_of(st.sampled_from(KEYS), st.text(max_size=8)),
            st.one_of(VALUES, st.text(max_size=20)),
        ),
        max_size=3,
    )
)
def test_any_overrides_of_a_config(pairs):
    cfg = get_cfg()
    before = cfg.dump()
    try:
        cfg.merge_from_list([word for key, value in pairs for word in (key, value)])
    except (UnknownKeyError, ConfigTypeError, AssertionError) as error:
        assert "\n" not in str(error).strip()
    else:
        assert yaml.safe_load(cfg.dump()) is not None
    assert before == get_cfg().dump()  # the defaults are nobody's to change


@few
@seeded
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_of_a_key_in_a_config_file(tmp_path_factory, key, value):
    path = tmp_path_factory.mktemp("config") / "a.yaml"
    content = value
    for part in reversed(key.split(".")):
        content = {part: content}
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    try:
        get_cfg().merge_from_file(str(path))
    except _CONFIG as error:
        assert "a.yaml" in str(error) and "\n" not in str(error).strip()


PLAIN = st.recursive(
    st.one_of(
        LEAVES,
        st.binary(max_size=8),
        st.lists(st.floats(width=32), max_size=4).map(lambda x: np.array(x, dtype=np.float32)),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4).map(
            lambda x: np.array(x, dtype=np.int64)
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers(-9, 9)), inner, max_size=4),
    ),
    max_leaves=10,
)


def _same(one, two) -> bool:
    if isinstance(one, float) and isinstance(two, float):
        return one == two or (one != one and two != two)
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
        return one.dtype == two.dtype and np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[k], two[k]) for k in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_same, one, two))
    return _equal(one, two)


@few
@seeded
@given(value=PLAIN, protocol=st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back_from_pickles(tmp_path_factory, value, protocol):
    path = tmp_path_factory.mktemp("pickle") / "a.pkl"
    path.write_bytes(pickle.dumps({"value": value}, protocol))
    assert _same(read_checkpoint_file(path), {"value": value})


@few
@seeded
@given(value=PLAIN)
def test_plain_values_come_back_from_checkpoints(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("checkpoint") / "a.pth"
    torch.save({"value": value}, path)
    try:
        found = read_checkpoint_file(path)
    except CheckpointFileError as error:
        # torch's own reader of untrusted files knows integers of up to 255 bytes only, and texts
        # without halves of surrogate pairs.
        assert "a.pth" in str(error)
        return
    assert _same(found, {"value": value})


@few
@seeded
@given(content=st.binary(max_size=200), magic=st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04"]))
def test_any_bytes_as_a_checkpoint(tmp_path_factory, content, magic):
    path = tmp_path_factory.mktemp("bytes") / "a.pth"
    path.write_bytes(magic + content)
    try:
        read_checkpoint_file(path)
    except CheckpointFileError as error:
        assert "a.pth" in str(error) and "\n" not in str(error)
