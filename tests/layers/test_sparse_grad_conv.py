"""The convolution with a sparse backward pass against torch's."""

import pytest
import torch
from torch import nn

from d2lite.layers import SparseGradConv2d, sparse_grad_conv


def gradients(conv: nn.Conv2d, x: torch.Tensor, cells: torch.Tensor) -> list[torch.Tensor]:
    """Of input, weight and bias, for a loss that looks at the cells where `cells` is 1."""
    x = x.clone().requires_grad_()
    conv.zero_grad()
    (conv(x).sin() * cells).sum().backward()
    return [x.grad, *(parameter.grad for parameter in conv.parameters())]


def pair(kernel: int, bias: bool = True) -> tuple[SparseGradConv2d, nn.Conv2d]:
    torch.manual_seed(0)
    ours = SparseGradConv2d(5, 4, kernel, padding=kernel // 2, bias=bias).double()
    theirs = nn.Conv2d(5, 4, kernel, padding=kernel // 2, bias=bias).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_gradients_are_those_of_a_dense_convolution(share: float, kernel: int, bias: bool):
    ours, theirs = pair(kernel, bias)
    x = torch.randn(2, 5, 7, 9, dtype=torch.float64)
    cells = (torch.rand(2, 1, 7, 9) < share).double()
    for got, expected in zip(gradients(ours, x, cells), gradients(theirs, x, cells), strict=True):
        torch.testing.assert_close(got, expected)


def test_gradients_have_a_gradient_as_those_of_a_dense_convolution():
    """A penalty on the gradient of the input, with few cells in the loss."""
    x = torch.randn(1, 5, 6, 8, dtype=torch.float64)
    cells = torch.zeros(1, 1, 6, 8, dtype=torch.float64)
    cells[..., 2, 3] = 1
    found = []
    for conv in pair(3):
        leaf = x.clone().requires_grad_()
        loss = (conv(leaf).sin() * cells).sum()
        (first,) = torch.autograd.grad(loss, leaf, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), [leaf, *conv.parameters()]))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


def test_cells_in_the_corners_and_side_by_side():
    ours, theirs = pair(3)
    x = torch.randn(1, 5, 6, 8, dtype=torch.float64)
    cells = torch.zeros(1, 1, 6, 8, dtype=torch.float64)
    for row, column in ((0, 0), (0, 1), (5, 7), (4, 7), (0, 7), (5, 0)):
        cells[..., row, column] = 1
    for got, expected in zip(gradients(ours, x, cells), gradients(theirs, x, cells), strict=True):
        torch.testing.assert_close(got, expected)


def test_few_cells_take_the_sparse_way_and_many_the_dense_one(monkeypatch):
    taken = []
    for name in ("_sparse_gradients", "_dense_gradients"):
        real = getattr(sparse_grad_conv, name)
        monkeypatch.setattr(
            sparse_grad_conv, name, lambda *a, r=real, n=name: (taken.append(n), r(*a))[1]
        )
    ours, _ = pair(3)
    x = torch.randn(1, 5, 10, 10, dtype=torch.float64)
    for count in (25, 26):
        cells = torch.zeros(100, dtype=torch.float64)
        cells[:count] = 1
        gradients(ours, x, cells.view(1, 1, 10, 10))
    assert taken == ["_sparse_gradients", "_dense_gradients"]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_not_hidden(wrong: float):
    ours, _ = pair(3)
    cells = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    cells[..., 4, 4] = wrong
    x = torch.randn(1, 5, 8, 8, dtype=torch.float64)
    assert not gradients(ours, x, cells)[1].isfinite().all()


def test_strides_and_empty_batches_are_an_ordinary_convolution():
    conv = SparseGradConv2d(3, 4, 3, stride=2, padding=1)
    assert conv(torch.randn(1, 3, 8, 8)).shape == (1, 4, 4, 4)
    same = SparseGradConv2d(3, 4, 3, padding=1)
    x = torch.randn(0, 3, 8, 8, requires_grad=True)
    same(x).sum().backward()
    assert x.grad.shape == x.shape and (same.weight.grad == 0).all()
