"""Parts of transformers: attention against its plain form, rates and initial weights by hand."""

import pytest
import torch
from torch import nn

from d2lite.modeling.backbone.transformer import (
    Mlp,
    attend_with_rel_pos,
    drop_path_layer,
    drop_path_rates,
    init_weights,
    maybe_checkpoint,
)
from d2lite.modeling.backbone.utils import add_decomposed_rel_pos


def test_fused_attention_has_the_gradients_of_the_plain_one():
    q, k, v = (torch.randn(2, 3, 6, 4, dtype=torch.double, requires_grad=True) for _ in range(3))
    rel_pos = [torch.randn(n, 4, dtype=torch.double, requires_grad=True) for n in (3, 5)]
    tensors = (q, k, v, *rel_pos)
    fused = attend_with_rel_pos(q, k, v, tuple(rel_pos), (2, 3), (2, 3))
    logits = (q / 2).flatten(0, 1) @ k.flatten(0, 1).transpose(1, 2)
    weights = add_decomposed_rel_pos(logits, q.flatten(0, 1), *rel_pos, (2, 3), (2, 3)).softmax(-1)
    plain = (weights @ v.flatten(0, 1)).view_as(v)
    torch.testing.assert_close(fused, plain)
    got = torch.autograd.grad(fused.square().sum(), tensors)
    expected = torch.autograd.grad(plain.square().sum(), tensors)
    torch.testing.assert_close(got, expected)


def test_rates_of_dropped_paths_grow_linearly():
    assert drop_path_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0.0]


def test_attention_without_positions_is_the_softmax_of_the_products():
    q, k, v = (torch.randn(2, 3, n, 4) for n in (6, 2, 2))
    expected = (q @ k.transpose(2, 3) / 2).softmax(-1) @ v
    got = attend_with_rel_pos(q, k, v, None, (2, 3), (1, 2))
    torch.testing.assert_close(got, expected)


def test_paths_are_dropped_for_whole_samples():
    assert isinstance(drop_path_layer(0.0), nn.Identity)
    torch.manual_seed(0)
    layer = drop_path_layer(0.75)
    rows = layer(torch.ones(400, 3))
    assert rows.unique().tolist() == [0, 4]  # the others are divided by 1 - 0.75
    assert torch.equal(rows.amin(1), rows.amax(1))
    assert (rows[:, 0] == 0).float().mean().item() == pytest.approx(0.75, abs=0.1)


@torch.no_grad()
def test_mlp_by_hand():
    mlp = Mlp(2, 3, 1, act_layer=nn.ReLU)
    mlp.fc1.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    mlp.fc1.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    mlp.fc2.weight.copy_(torch.tensor([[1.0, 10.0, 100.0]]))
    mlp.fc2.bias.fill_(0.5)
    assert mlp(torch.tensor([2.0, -1.0])).tolist() == [2 + 0 + 200 + 0.5]


def test_widths_of_an_mlp_are_those_of_its_input_by_default():
    mlp = Mlp(5, drop=1.0)
    assert (mlp.fc1.out_features, mlp.fc2.out_features) == (5, 5)
    assert not mlp(torch.ones(2, 5)).any()  # everything is dropped
    assert mlp.eval()(torch.ones(2, 5)).any()


@pytest.mark.parametrize("with_positions", [True, False])
def test_initial_weights_of_a_whole_backbone(with_positions: bool):
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Sequential(nn.Linear(40, 50)), nn.LayerNorm(4))
    backbone.pos_embed = nn.Parameter(torch.zeros(1, 40, 50)) if with_positions else None
    nn.init.constant_(backbone[1].weight, 5.0)
    init_weights(backbone)
    drawn = [backbone[0][0].weight] + ([backbone.pos_embed] if with_positions else [])
    assert [x.std().item() for x in drawn] == pytest.approx([0.02] * len(drawn), rel=0.1)
    assert backbone[0][0].bias.eq(0).all() and backbone[1].weight.eq(1).all()


@pytest.mark.parametrize(
    "wanted, training, calls", [(True, True, 2), (True, False, 1), (False, True, 1)]
)
def test_activations_are_computed_again_in_training_only(wanted, training, calls):
    class Counting(nn.Linear):
        count = 0

        def forward(self, x):
            self.count += 1
            return super().forward(x).sin()

    block = Counting(2, 2).train(training)
    maybe_checkpoint(block, wanted, torch.ones(1, 2)).sum().backward()
    assert block.count == calls and block.weight.grad.any()
