import numpy as np
import pytest
import torch

from d2lite.checkpoint.c2_model_loading import (
    align_and_update_state_dicts,
    convert_basic_c2_names,
    convert_c2_detectron_names,
    longest_ending,
)
from tests.golden import load_case

NAMES = load_case("checkpoint.c2_names")
ALIGN = load_case("checkpoint.align")


def tensors(shapes):
    return {k: torch.arange(float(np.prod(s))).reshape(s) for k, s in shapes.items()}


@pytest.mark.parametrize(
    "name, found",
    [
        ("backbone.stem.conv1.weight", "stem.conv1.weight"),
        ("conv1.weight", "conv1.weight"),
        ("myconv1.weight", None),  # an ending starts at a dot
        ("backbone.fc.bias", None),
    ],
)
def test_longest_known_ending_of_a_name(name, found):
    assert longest_ending(name, {"conv1.weight": 0, "stem.conv1.weight": 0}) == found


@pytest.mark.parametrize("layout", NAMES.inputs["c2"])
def test_names_and_shapes_equal_detectron2(layout):
    converted, original = convert_c2_detectron_names(tensors(NAMES.inputs["c2"][layout]))
    got = {original[new]: [new, list(value.shape)] for new, value in converted.items()}
    assert got == NAMES.outputs[layout]


@pytest.mark.parametrize("name", [name for name in NAMES.outputs if "first_values" in name])
def test_background_rows_move_as_in_detectron2(name):
    layout, _, new_name = name.partition(".first_values.")
    converted, _ = convert_c2_detectron_names(tensors(NAMES.inputs["c2"][layout]))
    values = converted[new_name].flatten().tolist()
    first, last = NAMES.outputs[name][:3], NAMES.outputs[name][3:]  # the last one, where stored
    assert values[:3] == first
    assert values[-1:] == last or not last


@pytest.mark.parametrize("name", ALIGN.inputs["cases"])
def test_matching_equals_detectron2(name):
    case, want = ALIGN.inputs["cases"][name], ALIGN.outputs[name]
    model = tensors(case["model"])
    checkpoint = tensors(case["checkpoint"])
    for index, value in enumerate(checkpoint.values()):
        value.flatten()[0] = index  # tells which entry a name got
    index_of = {key: index for index, key in enumerate(checkpoint)}
    if want == "ValueError":
        with pytest.raises(ValueError, match=r"conv.weight .* fits both x.conv.weight and y.conv"):
            align_and_update_state_dicts(model, checkpoint, case["c2"])
        return
    got = align_and_update_state_dicts(model, checkpoint, case["c2"])
    assert {k: int(v.flatten()[0]) for k, v in got.items()} == {
        k: index_of[v] for k, v in want.items()
    }


def test_basic_names_keep_their_order():
    # pencil: Caffe2's names of the paper's "conv2_1, shortcut" and its batch norm
    names = ["res2_0_branch1_w", "res2_0_branch1_bn_rm", "res2_0_branch2b_gn_s", "pred_b"]
    assert convert_basic_c2_names(names) == [
        "res2.0.shortcut.weight",
        "res2.0.shortcut.norm.running_mean",
        "res2.0.conv2.norm.weight",
        "linear.bias",
    ]


def test_group_norm_of_fpn_keeps_its_norm():
    _, original = convert_c2_detectron_names({"fpn_inner_res3_3_sum_lateral_gn_s": torch.ones(2)})
    assert list(original) == ["fpn_lateral3.norm.weight"]
