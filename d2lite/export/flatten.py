"""Models with structured inputs and outputs as functions from tensors to tensors.

Exporters only support tensors. `flatten_to_tuple` flattens lists, dicts, Instances and boxes, and
returns a schema that rebuilds them; `TracingAdapter` does this around a model.
"""

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from d2lite.structures import Boxes, Instances, ROIMasks, RotatedBoxes

logger = logging.getLogger(__name__)

Values = Sequence[Any]


@dataclass
class Schema:
    """The structure of a flattened value. Calling it with the flat values rebuilds the value.

    `flatten` returns the flat values as a tuple, and the schema for values of that structure.
    """

    def __call__(self, values: Values) -> Any:
        """Rebuild the value."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple, "Schema"]:
        """Flatten `obj`."""
        raise NotImplementedError(f"{cls.__name__} must define flatten")


@dataclass
class IdentitySchema(Schema):
    """A value that is not flattened."""

    def __call__(self, values: Values) -> Any:
        (value,) = values
        return value

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple, "IdentitySchema"]:
        return (obj,), cls()


@dataclass
class ListSchema(Schema):
    """A list, with the schema of each entry and the number of its flat values."""

    schemas: list[Schema]
    sizes: list[int]

    def __call__(self, values: Values) -> list:
        if len(values) != sum(self.sizes):
            raise ValueError(f"the schema has {sum(self.sizes)} values, got {len(values)}")
        entries, start = [], 0
        for schema, size in zip(self.schemas, self.sizes, strict=True):
            entries.append(schema(values[start : start + size]))
            start += size
        return entries

    @classmethod
    def flatten(cls, obj: Sequence) -> tuple[tuple, "ListSchema"]:
        parts = [flatten_to_tuple(entry) for entry in obj]
        flat = tuple(value for values, _ in parts for value in values)
        return flat, cls([schema for _, schema in parts], [len(values) for values, _ in parts])


@dataclass
class TupleSchema(ListSchema):
    """A tuple, stored like a list."""

    def __call__(self, values: Values) -> tuple:
        return tuple(super().__call__(values))


@dataclass
class DictSchema(ListSchema):
    """A dict with string keys, with its entries sorted by key."""

    keys: list[str]

    def __call__(self, values: Values) -> dict:
        return dict(zip(self.keys, super().__call__(values), strict=True))

    @classmethod
    def flatten(cls, obj: Mapping[str, Any]) -> tuple[tuple, "DictSchema"]:
        for key in obj:
            if not isinstance(key, str):
                raise ValueError(f"only dicts with string keys can be flattened, found {key!r}")
        keys = sorted(obj)
        flat, entries = ListSchema.flatten([obj[key] for key in keys])
        return flat, cls(entries.schemas, entries.sizes, keys)


@dataclass
class InstancesSchema(DictSchema):
    """Instances: the fields stored like a dict, then the image size as a (2,) tensor."""

    def __call__(self, values: Values) -> Instances:
        *fields, image_size = values
        if isinstance(image_size, Tensor):
            image_size = tuple(image_size.tolist())
        return Instances(image_size, **super().__call__(fields))

    @classmethod
    def flatten(cls, obj: Instances) -> tuple[tuple, "InstancesSchema"]:
        flat, schema = super().flatten(obj.get_fields())
        return (*flat, torch.as_tensor(obj.image_size)), schema


@dataclass
class TensorWrapSchema(Schema):
    """A wrapper of one tensor, such as Boxes, with the full name of its class."""

    class_name: str

    WRAPPERS: ClassVar[tuple[type, ...]] = (Boxes, RotatedBoxes, ROIMasks)

    def __call__(self, values: Values) -> Any:
        (tensor,) = values
        module, _, name = self.class_name.rpartition(".")
        return getattr(importlib.import_module(module), name)(tensor)

    @classmethod
    def flatten(cls, obj: Any) -> tuple[tuple, "TensorWrapSchema"]:
        return (obj.tensor,), cls(f"{type(obj).__module__}.{type(obj).__qualname__}")


# The first match is used.
SCHEMAS: tuple[tuple[type | tuple[type, ...], type[Schema]], ...] = (
    ((str, bytes), IdentitySchema),
    (list, ListSchema),
    (tuple, TupleSchema),
    (Mapping, DictSchema),
    (Instances, InstancesSchema),
    (TensorWrapSchema.WRAPPERS, TensorWrapSchema),
    (object, IdentitySchema),
)


def flatten_to_tuple(obj: Any) -> tuple[tuple, Schema]:
    """Flatten a value into tensors and other plain values.

    Args:
        obj: any nesting of lists, tuples, dicts with string keys, Instances, Boxes, RotatedBoxes
            and ROIMasks; everything else is not flattened.
    Returns:
        The flat values, and the schema with `schema(flat) == obj`.
    """
    schema = next(schema for types, schema in SCHEMAS if isinstance(obj, types))
    return schema.flatten(obj)


class TracingAdapter(nn.Module):
    """A model that takes and returns only tensors, for exporters.

    Attributes:
        flattened_inputs: the example inputs as the tuple of tensors that `forward` takes.
        inputs_schema: rebuilds the model's inputs from it.
        outputs_schema: rebuilds the model's outputs from the result of `forward`; None before the
            first call.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        inference_func: Callable[..., Any] | None = None,
        allow_non_tensor: bool = False,
    ):
        """Wrap a model.

        Args:
            model: in evaluation mode.
            inputs: example inputs: one value, or a tuple of arguments.
            inference_func: called as inference_func(model, *inputs) instead of the model.
            allow_non_tensor: allow values that are not tensors in inputs and outputs, and store no
                schema of the outputs. Otherwise they are an error.
        Raises:
            ValueError: an input is not a tensor.
        """
        super().__init__()
        self.model = (
            model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        )
        self.inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        self.inference_func = inference_func or _call
        self.allow_non_tensor = allow_non_tensor
        self.flattened_inputs, self.inputs_schema = flatten_to_tuple(self.inputs)
        self.outputs_schema: Schema | None = None
        if not allow_non_tensor:
            _check_tensors(self.flattened_inputs, "input")

    def forward(self, *args: Tensor) -> tuple[Tensor, ...]:
        """Compute flat outputs from flat inputs, without gradients.

        Raises:
            ValueError: an output is not a tensor, or the structure of the outputs has changed.
        """
        with torch.no_grad():
            outputs = self.inference_func(self.model, *self.inputs_schema(args))
        flat, schema = flatten_to_tuple(outputs)
        if self.allow_non_tensor:
            return tuple(value for value in flat if isinstance(value, Tensor))
        _check_tensors(flat, "output")
        if self.outputs_schema is None:
            self.outputs_schema = schema
        elif schema != self.outputs_schema:
            raise ValueError(
                f"the structure of the outputs differs from that of the first call: {schema}, "
                f"expected {self.outputs_schema}"
            )
        return flat


def _call(model: nn.Module, *inputs: Any) -> Any:
    return model(*inputs)


def _check_tensors(values: Values, what: str) -> None:
    others = sorted({type(value).__name__ for value in values if not isinstance(value, Tensor)})
    if others:
        raise ValueError(
            f"the {what}s of the model contain values that are not tensors: {', '.join(others)}. "
            "Give an inference_func that takes and returns only tensors, or allow_non_tensor=True"
        )
