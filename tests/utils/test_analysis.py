import pytest
import torch
from torch import nn

from d2lite.utils.analysis import (
    FlopCountAnalysis,
    activation_count_operators,
    find_unused_parameters,
    flop_count_operators,
    parameter_count,
    parameter_count_table,
)


class TinyDetector(nn.Module):
    """Takes and returns what detectors do: a list of dicts."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.spare = nn.Linear(2, 2)

    def forward(self, batch):
        features = self.conv(torch.stack([x["image"] for x in batch]))
        if self.training:
            return {"loss": features.square().mean()}
        return [{"size": x["size"], "scores": f} for x, f in zip(batch, features, strict=True)]


BATCH = [{"image": torch.ones(3, 8, 8), "size": (8, 8)}]
CONV = 6 * 6 * 4 * 3 * 9  # output pixels x output channels x input channels x kernel


def test_operations_worked_by_hand():
    analysis = FlopCountAnalysis(TinyDetector().eval(), BATCH)
    assert analysis.total() == CONV
    assert analysis.by_module()["model.conv"] == CONV
    assert flop_count_operators(TinyDetector(), BATCH)["conv"] == pytest.approx(CONV / 1e9)


class Doubled(torch.autograd.Function):
    """An autograd function of the older form, with a product inside."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x @ torch.ones(x.shape[1], 5)

    @staticmethod
    def backward(ctx, gradient):
        raise AssertionError("no gradients here")


class DoubledNewer(Doubled):
    """The same in the newer form, whose forward takes no context."""

    @staticmethod
    def forward(x):
        return x @ torch.ones(x.shape[1], 5)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass


@pytest.mark.parametrize("function", [Doubled, DoubledNewer])
def test_operations_within_autograd_functions_are_counted(function):
    class Model(nn.Module):
        def forward(self, x):
            return function.apply(x)

    apply = torch.autograd.Function.__dict__["apply"]
    assert FlopCountAnalysis(Model(), torch.ones(2, 3)).total() == 2 * 3 * 5
    assert torch.autograd.Function.__dict__["apply"] is apply


def test_activations_worked_by_hand():
    model = TinyDetector()
    assert activation_count_operators(model, BATCH)["conv"] == pytest.approx(6 * 6 * 4 / 1e6)
    assert model.training  # as before


def test_parameters():
    model = TinyDetector()
    assert parameter_count(model)["conv"] == 108
    assert "spare" in parameter_count_table(model)


def test_unused_parameters_are_named():
    assert find_unused_parameters(TinyDetector(), BATCH) == ["spare.weight", "spare.bias"]
    with pytest.raises(AssertionError, match="training mode"):
        find_unused_parameters(TinyDetector().eval(), BATCH)
