"""The third of three tests of the drop-in contract: every public name of detectron2 is here.

The other two are `tests/modeling/test_state_dicts.py` (names and shapes of weights) and
`tests/test_configs.py` (values of the zoo's configs).
"""

import inspect

import pytest

from d2lite.structures import Boxes
from tests import api_facts

TORCHSCRIPT = "TorchScript, replaced by torch.export and ONNX (DESIGN.md)"
CAFFE2 = "Caffe2 is no more; replaced by torch.export and ONNX (DESIGN.md)"

# Each difference that is meant, with its reason.
EXCEPTIONS = {
    # TorchScript
    "export.torchscript: no such module": TORCHSCRIPT,
    "export.torchscript_patch: no such module": TORCHSCRIPT,
    "export.torchscript: missing": TORCHSCRIPT,
    "export.torchscript_patch: missing": TORCHSCRIPT,
    "export.dump_torchscript_IR: missing": TORCHSCRIPT,
    "export.scripting_with_instances: missing": TORCHSCRIPT,
    "utils.testing.convert_scripted_instances: missing": TORCHSCRIPT,
    "utils.testing.reload_script_model: missing": TORCHSCRIPT,
    "utils.testing.register_custom_op_onnx_export: missing": (
        "adds symbols to the ONNX exporter that is based on TorchScript"
    ),
    "utils.testing.unregister_custom_op_onnx_export: missing": (
        "takes back what register_custom_op_onnx_export did"
    ),
    # the rest
    "modeling.Backbone.forward(x): is asked for here only": (
        "abstract in both, so nobody can call it; the methods that override it take the images"
    ),
    "export.STABLE_ONNX_OPSET_VERSION: is 18, not 11": (
        "torch's exporter of torch.export programs writes operator sets from 18 on"
    ),
    "utils.logger.setup_logger(name): default is 'd2lite', not 'detectron2'": (
        "the root of the package's loggers has its name; compat makes both names one logger"
    ),
}

# Modules that detectron2 itself could not import without caffe2.
WITHOUT = {
    "detectron2.export.api": CAFFE2,
    "detectron2.export.c10": CAFFE2,
    "detectron2.export.caffe2_export": CAFFE2,
    "detectron2.export.caffe2_inference": CAFFE2,
    "detectron2.export.caffe2_modeling": CAFFE2,
    "detectron2.export.caffe2_patch": CAFFE2,
    "detectron2.export.shared": CAFFE2,
}


def test_every_name_has_its_place_and_its_parameters():
    found = list(api_facts.name_differences())
    unexpected = [line for line in found if line not in EXCEPTIONS]
    assert not unexpected, "differences from detectron2:\n" + "\n".join(unexpected)
    stale = sorted(set(EXCEPTIONS) - set(found))
    assert not stale, "these exceptions are none any more:\n" + "\n".join(stale)


def test_registries_hold_what_they_held():
    assert not list(api_facts.registry_differences())


def test_data_sets_are_registered_with_their_metadata():
    assert not list(api_facts.dataset_differences())


def test_only_caffe2_modules_were_not_compared():
    assert set(api_facts.API["not_importable_here"]) == set(WITHOUT)


def test_reference_is_read_in_full():
    """The comparison looks at what the reference holds, not at an empty file."""
    names = [
        entry
        for section in api_facts.SECTIONS
        for facts in api_facts.API[section].values()
        for entry in facts["names"].values()
    ]
    assert len(names) > 800
    assert sum("methods" in entry for entry in names) > 180


# --- the comparison itself, by hand ----------------------------------------------------------


def reference(*parameters):
    """(name,), (name, default) or (name, default, kind) as the reference writes parameters."""
    keys = ("name", "default", "kind")
    written = [dict(zip(keys, (p,) if isinstance(p, str) else p, strict=False)) for p in parameters]
    return [{k: v for k, v in entry.items() if v is not None} for entry in written]


def ours(a, b=1, *, c="x"):
    raise NotImplementedError


@pytest.mark.parametrize(
    "parameters, difference",
    [
        (["a", ("b", "1"), ("c", "'x'", "keyword_only")], None),
        (["a", ("b", "1")], None),  # ours takes more, with a default
        (["a", "b"], None),  # a default where there was none
        (["b", "a"], "f(b): is at place 1, not 0"),
        (["a", ("b", "2")], "f(b): default is 1, not 2"),
        (["a", ("b", "1.0")], "f(b): default is 1, not 1.0"),
        (["a", ("b", "1"), "c"], "f(c): is keyword_only, not positional_or_keyword"),
        (["a", "d"], "f(d): missing parameter"),
        (["a", ("rest", None, "*args")], "f(*rest): not taken"),
        (["a", ("rest", None, "**kwargs")], "f(**rest): not taken"),
        ([("b", "1")], "f(a): is asked for here only"),
    ],
)
def test_parameters_by_hand(parameters, difference):
    ours.__module__ = "d2lite.somewhere"
    found = list(api_facts.function_differences("f", ours, reference(*parameters)))
    assert found == [] if difference is None else difference in found


def test_class_differences_by_hand():
    class Odd(Boxes):
        area = None

    Odd.__module__ = "d2lite.somewhere"
    entry = {
        "defined_in": "detectron2.somewhere",
        "bases": ["Boxes", "Module"],
        "init": reference("self", "tensor", "mode"),
        "methods": {"area": {"params": reference("self")}, "turn": {"params": []}},
        "properties": ["device", "weight"],
        "class_attributes": {"box_dim": "4"},
    }
    assert list(api_facts.class_differences("Odd", Odd, entry)) == [
        "Odd: is not a Module",
        "Odd.__init__(mode): missing parameter",
        "Odd.area: cannot be called",
        "Odd.turn: missing method",
        "Odd.weight: missing property",
        "Odd.box_dim: is missing, not 4",
    ]


def test_missing_modules_and_names_are_differences():
    assert api_facts.find_module("no_such_room.at_all") is api_facts.MISSING
    entry = {"kind": "function", "params": []}
    assert list(api_facts.entry_differences("x.y", inspect, "y", entry)) == ["x.y: missing"]


@pytest.mark.parametrize(
    "value, written, same",
    [
        (4, "4", True),
        (4.0, "4", False),
        ((1, 2), "(1, 2)", True),
        ([1, 2], "(1, 2)", False),
        (("left", "right"), "('left', 'rig", True),  # the reference cuts long values off
        (("left", "right"), "('right', 'le", False),
        (Boxes, "<class 'detectron2.structures.boxes.Boxes'>", True),
        (Boxes, "<class 'detectron2.structures.masks.BitMasks'>", False),
        (inspect.Parameter.empty, "None", False),
    ],
)
def test_values_by_hand(value, written, same):
    assert api_facts.same_value(value, written) is same
