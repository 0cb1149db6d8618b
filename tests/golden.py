"""Golden cases: figures computed with detectron2, and the ways to compare with them.

`tests/reference/golden/README.md` explains the format. A test reads

    case = load_case("box_transform.w1")
    got = Box2BoxTransform(**case.params[...]).get_deltas(case.tensor("src"), ...)
    case.check("deltas", got)
"""

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

REFERENCE = Path(__file__).parent / "reference"
GOLDEN = REFERENCE / "golden"


@functools.cache
def _index() -> dict[str, dict]:
    cases = json.loads((GOLDEN / "index.json").read_text())["cases"]
    return {case["case"]: case for case in cases}


def case_names(prefix: str = "", runner: str | None = None) -> list[str]:
    """Names of the cases that start with `prefix` and, if given, are of one `runner`."""
    return [
        name
        for name, case in _index().items()
        if name.startswith(prefix) and runner in (None, case["runner"])
    ]


@dataclass
class Case:
    """One golden case. `inputs` and `outputs` hold numpy arrays and json values by name."""

    name: str
    params: dict
    tolerance: dict[str, dict]
    inputs: dict[str, Any] = field(repr=False)
    outputs: dict[str, Any] = field(repr=False)
    detection_groups: list[str] = field(default_factory=list)

    def tensor(self, name: str) -> torch.Tensor:
        """The input array `name` as a tensor of its own."""
        return torch.from_numpy(np.array(self.inputs[name]))

    def tolerance_of(self, name: str) -> dict:
        """The tolerance of output `name`: the last entry that its name ends in, else default."""
        found = self.tolerance["default"]
        for ending, tolerance in self.tolerance.items():
            if ending != "default" and name.endswith(ending):
                found = tolerance
        return found

    def check(self, name: str, got: Any) -> None:
        """Assert that `got` equals the stored output `name` within its tolerance."""
        assert_within(f"{self.name}: {name}", got, self.outputs[name], self.tolerance_of(name))

    def check_detections(self, prefix: str, got: dict[str, Any]) -> None:
        """Compare detections as a set: each stored row with the nearest row of its class.

        Args:
            prefix: such as "img0."; stored outputs are prefix + "boxes", "scores", "classes", ...
            got: arrays by the same names without the prefix, N rows each.
        """
        want = {k[len(prefix) :]: v for k, v in self.outputs.items() if k.startswith(prefix)}
        got = {k: _to_numpy(v) for k, v in got.items()}
        assert len(got["boxes"]) == len(want["boxes"]), (
            f"{self.name}: {prefix} has {len(got['boxes'])} detections, not {len(want['boxes'])}"
        )
        order = _nearest_rows(want, got)
        for key, value in got.items():
            if key in want and key not in ("mask_shape", "masks_packed"):
                assert_within(
                    f"{self.name}: {prefix}{key}",
                    value[order],
                    want[key],
                    self.tolerance_of(prefix + key),
                )
        if "masks" in got and "masks_packed" in want:
            shape = tuple(want["mask_shape"])
            bits = np.unpackbits(want["masks_packed"])[: np.prod(shape)].reshape(shape)
            differing = (got["masks"][order].astype(bool) != bits.astype(bool)).sum()
            allowed = self.tolerance_of("masks_packed")["mismatch_fraction"] * max(bits.sum(), 1)
            assert differing <= allowed, f"{self.name}: {differing} mask bits differ, {allowed} may"


def load_case(name: str) -> Case:
    """Read one golden case by its name."""
    entry = _index()[name]
    inputs, outputs = {}, {}
    if "json_file" in entry:
        stored = json.loads((GOLDEN / entry["json_file"]).read_text())
        inputs.update(stored.get("in", {}))
        outputs.update(stored.get("out", {}))
    if "file" in entry:
        with np.load(GOLDEN / entry["file"]) as arrays:
            for key in arrays.files:
                kind, _, rest = key.partition(".")
                (inputs if kind == "in" else outputs)[rest] = arrays[key]
    groups = entry.get("detection_groups", [])
    return Case(name, entry.get("params", {}), entry["tolerance"], inputs, outputs, groups)


@functools.cache
def golden_images() -> dict[str, np.ndarray]:
    """`img0..2` (H, W, 3) uint8 BGR and `img<i>.sem_seg` (H, W)."""
    with np.load(GOLDEN / "images.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


@functools.cache
def golden_annotations() -> dict:
    """By image: boxes XYXY, classes, polygons, keypoints, rotated_boxes."""
    return json.loads((GOLDEN / "annotations.json").read_text())


@functools.cache
def _fill():
    namespace: dict = {}
    exec(compile((GOLDEN / "fill.py").read_text(), "fill.py", "exec"), namespace)
    return namespace["fill_value"]


def fill_model(model: torch.nn.Module, seed: int, factors: dict | None = None) -> None:
    """Set every entry of the model's state dict from its name (the fill rule)."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            value = _fill()(name, tensor.shape, seed, factors)
            if value is not None:
                tensor.copy_(torch.from_numpy(np.asarray(value)))


def assert_within(name: str, got: Any, want: Any, tolerance: dict) -> None:
    """Assert |got - want| <= atol + rtol * |want|; whole numbers and booleans exactly."""
    got, want = _to_numpy(got), _to_numpy(want)
    assert got.shape == want.shape, f"{name}: shape {got.shape}, expected {want.shape}"
    if "mismatch_fraction" in tolerance:
        share = (got != want).mean() if want.size else 0.0
        assert share <= tolerance["mismatch_fraction"], f"{name}: {share:.4f} of elements differ"
        return
    exact = want.dtype.kind in "biu" and not tolerance.get("int_close")
    if exact or want.dtype.kind in "USO":
        np.testing.assert_array_equal(got, want, err_msg=name)
        return
    np.testing.assert_allclose(
        got.astype(np.float64),
        want.astype(np.float64),
        rtol=tolerance.get("rtol", 0),
        atol=tolerance.get("atol", 0),
        err_msg=name,
    )


def _to_numpy(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    return np.asarray(value)


def _nearest_rows(want: dict, got: dict) -> np.ndarray:
    """For every stored detection the index of the nearest unused one of the same class."""
    want_boxes, got_boxes = want["boxes"].astype(float), got["boxes"].astype(float)
    distance = np.abs(want_boxes[:, None] - got_boxes[None]).sum(-1)
    for key in ("classes",):
        if key in want:
            distance[want[key][:, None] != got[key][None]] = np.inf
    if "scores" in want:  # separates detections that share a box
        distance = distance + np.abs(want["scores"][:, None] - got["scores"][None])
    order = np.full(len(want_boxes), -1)
    for row in np.argsort(distance.min(axis=1, initial=np.inf)):
        order[row] = distance[row].argmin()
        distance[:, order[row]] = np.inf
    return order
