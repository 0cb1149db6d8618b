import pytest
import torch
from torch import nn

from d2lite.export import TracingAdapter, flatten_to_tuple
from d2lite.export.flatten import (
    DictSchema,
    IdentitySchema,
    InstancesSchema,
    ListSchema,
    Schema,
    TensorWrapSchema,
    TupleSchema,
)
from d2lite.structures import Boxes, Instances, RotatedBoxes

A, B, C = torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([3.0])


def test_nested_containers_are_flattened_in_order_and_rebuilt():
    value = [A, (B, {"b": C, "a": "text"}), []]
    flat, schema = flatten_to_tuple(value)
    assert flat == (A, B, "text", C)  # dicts in the order of their keys
    assert schema(flat) == value


@pytest.mark.parametrize(
    "value, kind",
    [
        ([A], ListSchema),
        ((A,), TupleSchema),
        ({"a": A}, DictSchema),
        ("text", IdentitySchema),
        (A, IdentitySchema),
        (None, IdentitySchema),
        (Boxes(torch.ones(1, 4)), TensorWrapSchema),
        (Instances((2, 3)), InstancesSchema),
    ],
)
def test_kinds_of_schemas(value, kind):
    assert type(flatten_to_tuple(value)[1]) is kind


def test_values_of_one_form_have_equal_schemas():
    first, second = ([A, {"x": B}], [C, {"x": A}])
    assert flatten_to_tuple(first)[1] == flatten_to_tuple(second)[1]
    assert flatten_to_tuple([A, {"y": B}])[1] != flatten_to_tuple(first)[1]
    assert flatten_to_tuple([A])[1] != flatten_to_tuple((A,))[1]


def test_instances_keep_fields_and_size():
    boxes = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    flat, schema = flatten_to_tuple(Instances((4, 5), pred_boxes=Boxes(boxes), scores=A))
    assert flat[0] is boxes and flat[1] is A and flat[2].tolist() == [4, 5]
    rebuilt = schema(flat)
    assert rebuilt.image_size == (4, 5) and rebuilt.scores is A
    assert type(rebuilt.pred_boxes) is Boxes and rebuilt.pred_boxes.tensor is boxes


def test_rotated_boxes_stay_rotated():
    flat, schema = flatten_to_tuple(RotatedBoxes(torch.ones(2, 5)))
    assert type(schema(flat)) is RotatedBoxes


def test_wrong_number_of_values_is_refused():
    _, schema = flatten_to_tuple([A, B])
    with pytest.raises(ValueError, match="has 2 values, got 1"):
        schema((A,))


def test_keys_must_be_strings():
    with pytest.raises(ValueError, match="string keys can be flattened, found 1"):
        flatten_to_tuple({1: A})


def test_bare_schema_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="Schema must define flatten"):
        Schema.flatten(A)
    with pytest.raises(NotImplementedError, match="Schema must define __call__"):
        Schema()((A,))


class Sum(nn.Module):
    def forward(self, inputs, more):
        return [{"sum": inputs[0]["a"] + more}]


def test_adapter_takes_and_gives_tensors():
    adapter = TracingAdapter(Sum(), ([{"a": A}], B))
    assert adapter.flattened_inputs == (A, B)
    assert adapter.outputs_schema is None
    outputs = adapter(*adapter.flattened_inputs)
    assert outputs == (C,)
    assert adapter.outputs_schema(outputs) == [{"sum": C}]
    assert adapter(B, B)[0].item() == 4  # other values of the same form


def test_adapter_gives_one_input_whole():
    adapter = TracingAdapter(nn.ReLU(), torch.tensor([-1.0, 2.0]))
    assert adapter(*adapter.flattened_inputs)[0].tolist() == [0, 2]


def test_adapter_calls_the_inference_function():
    adapter = TracingAdapter(nn.ReLU(), A, lambda model, x: {"twice": model(x) * 2})
    assert adapter(A)[0].item() == 2


def test_adapter_computes_without_gradients():
    adapter = TracingAdapter(nn.Linear(1, 1), A)
    assert not adapter(A)[0].requires_grad


def test_values_that_are_no_tensors():
    inputs = [{"image": A, "height": 3}]
    with pytest.raises(ValueError, match=r"inputs of the model contain .*: int"):
        TracingAdapter(nn.Identity(), inputs)
    with pytest.raises(ValueError, match=r"outputs of the model contain .*: int"):
        TracingAdapter(nn.Identity(), A, lambda model, x: {"x": x, "n": 1})(A)
    adapter = TracingAdapter(nn.Identity(), inputs, allow_non_tensor=True)
    assert adapter(*adapter.flattened_inputs) == (A,)
    assert adapter.outputs_schema is None


def test_outputs_must_keep_their_form():
    forms = iter([{"a": A}, [A]])
    adapter = TracingAdapter(nn.Identity(), A, lambda model, x: next(forms))
    adapter(A)
    with pytest.raises(ValueError, match="structure of the outputs differs"):
        adapter(A)
