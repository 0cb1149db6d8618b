"""Counting the parameters, operations and activations of a model.

    inputs = [{"image": image}]
    print(parameter_count_table(model))
    print(FlopCountAnalysis(model, inputs).by_module())

One multiply-add counts as one operation, as in papers.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import fvcore.nn
import torch
from fvcore.nn import (
    ActivationCountAnalysis,
    parameter_count as parameter_count,
    parameter_count_table as parameter_count_table,
)
from torch import Tensor, nn
from torch.utils import _pytree as pytree

FLOPS_MODE = "flops"
ACTIVATIONS_MODE = "activations"

# Operations that move, compare or look up values, without multiply-adds; no warning is needed.
_IGNORED_OPS = {
    "aten::__lshift__",
    "aten::add",
    "aten::add_",
    "aten::all",
    "aten::amax",
    "aten::argmax",
    "aten::argsort",
    "aten::bitwise_and",
    "aten::bitwise_not",
    "aten::ceil",
    "aten::clamp",
    "aten::clamp_",
    "aten::clone",
    "aten::constant_pad_nd",
    "aten::cumsum",
    "aten::div",
    "aten::div_",
    "aten::embedding_bag",
    "aten::eq",
    "aten::exp",
    "aten::fill_",
    "aten::floor",
    "aten::floor_divide",
    "aten::full_like",
    "aten::ge",
    "aten::gt",
    "aten::index_copy_",
    "aten::index_put_",
    "aten::isfinite",
    "aten::le",
    "aten::log",
    "aten::log2",
    "aten::lt",
    "aten::max",
    "aten::max_pool2d",
    "aten::maximum",
    "aten::mean",
    "aten::meshgrid",
    "aten::minimum",
    "aten::mul",
    "aten::mul_",
    "aten::neg",
    "aten::nonzero",
    "aten::nonzero_numpy",
    "aten::ones_like",
    "aten::pow",
    "aten::reciprocal_",
    "aten::remainder",
    "aten::repeat_interleave",
    "aten::rsqrt",
    "aten::rsub",
    "aten::scatter",
    "aten::scatter_",
    "aten::scatter_add_",
    "aten::scatter_reduce_",
    "aten::sigmoid",
    "aten::sigmoid_",
    "aten::softmax",
    "aten::sort",
    "aten::split",
    "aten::sqrt",
    "aten::sub",
    "aten::sum",
    "aten::topk",
    "aten::unflatten",
    "aten::view_as",
    "aten::zeros_like",
    "torchvision::nms",
}


class _TensorsOnly(nn.Module):
    """A model as a function from tensors to tensors, which can be traced."""

    def __init__(self, model: nn.Module, inputs: Any):
        super().__init__()
        self.model = model
        leaves, self._structure = pytree.tree_flatten(inputs)
        self._is_tensor = [isinstance(leaf, Tensor) for leaf in leaves]
        self._others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self.tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        remaining = iter(tensors)
        leaves = [
            next(remaining) if is_tensor else other
            for is_tensor, other in zip(self._is_tensor, self._others, strict=True)
        ]
        with torch.no_grad(), _functions_called_plainly():
            outputs = self.model(*pytree.tree_unflatten(leaves, self._structure))
        return tuple(_tensors_in(outputs))


class _NoContext:
    """Stand-in for the `ctx` of an autograd function, which ignores everything."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


@contextlib.contextmanager
def _functions_called_plainly() -> Iterator[None]:
    """Run autograd functions written in Python as plain functions, which can be traced.

    Otherwise each is traced as one unknown operator, or fails. Without gradients both are equal.
    """
    base, original = torch.autograd.Function, torch.autograd.Function.__dict__["apply"]

    def call(cls: type, *args: Any) -> Any:
        takes_context = cls.setup_context is base.setup_context
        return cls.forward(_NoContext(), *args) if takes_context else cls.forward(*args)

    base.apply = classmethod(call)
    try:
        yield
    finally:
        base.apply = original


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield all tensors within dicts, lists, Instances and box or mask structures."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for x in value.values():
            yield from _tensors_in(x)
    elif isinstance(value, list | tuple):
        for x in value:
            yield from _tensors_in(x)
    elif hasattr(value, "get_fields"):
        yield from _tensors_in(value.get_fields())
    elif isinstance(getattr(value, "tensor", None), Tensor):
        yield value.tensor


class FlopCountAnalysis(fvcore.nn.FlopCountAnalysis):
    """fvcore's operation count, for models with structured inputs and outputs.

    The count depends on the input: on its size, and on the number of proposals and detections.
    Module names in the results start with "model".
    """

    def __init__(self, model: nn.Module, inputs: Any):
        """Store the model and its inputs: one argument, or a tuple of several."""
        wrapped = _TensorsOnly(model, inputs if isinstance(inputs, tuple) else (inputs,))
        super().__init__(wrapped, wrapped.tensors)
        self.set_op_handle(**dict.fromkeys(_IGNORED_OPS))


def flop_count_operators(model: nn.Module, inputs: list) -> dict[str, float]:
    """Return the billions of operations of one inference, by kind of operator.

    Args:
        model: it is put into eval mode for the count.
        inputs: a batch as the model takes it.
    """
    with _evaluating(model):
        counts = FlopCountAnalysis(model, inputs).by_operator()
    return {name: count / 1e9 for name, count in counts.items()}


def activation_count_operators(model: nn.Module, inputs: list, **kwargs: Any) -> dict[str, float]:
    """Return the millions of output values of convolutions and matrix products, by operator.

    Args:
        model: it is put into eval mode for the count.
        inputs: a batch as the model takes it.
        kwargs: more handlers of operators, for ActivationCountAnalysis.set_op_handle.
    """
    wrapped = _TensorsOnly(model, (inputs,))
    with _evaluating(model):
        analysis = ActivationCountAnalysis(wrapped, wrapped.tensors)
        counts = analysis.set_op_handle(**kwargs).unsupported_ops_warnings(False).by_operator()
    return {name: count / 1e6 for name, count in counts.items()}


class _evaluating:
    """Context manager for eval mode without gradients; it restores the previous mode."""

    def __init__(self, model: nn.Module):
        self.model, self.was_training = model, model.training
        self.no_grad = torch.no_grad()

    def __enter__(self) -> None:
        self.model.eval()
        self.no_grad.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        self.no_grad.__exit__(*exc_info)
        self.model.train(self.was_training)


def find_unused_parameters(model: nn.Module, inputs: Any) -> list[str]:
    """Return the names of parameters on which no loss depends, a problem for DDP.

    Args:
        model: in training mode, returning a dict of losses.
        inputs: a batch with ground truth. Gradients of the model are overwritten.
    """
    assert model.training, "find_unused_parameters needs a model in training mode"
    for parameter in model.parameters():
        parameter.grad = None
    losses = model(inputs)
    sum(_tensors_in(losses)).backward()
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
