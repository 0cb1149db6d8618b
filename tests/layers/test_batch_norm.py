"""Normalization layers."""

import pytest
import torch
from torch import nn

from d2lite.layers import (
    CycleBatchNormList,
    FrozenBatchNorm2d,
    LayerNorm,
    NaiveSyncBatchNorm,
    batch_norm,
    get_norm,
)
from tests.golden import load_case
from tests.layers.test_frozen_conv import random_frozen_norm
from tests.layers.test_wrappers import filled


def test_golden_frozen():
    case = load_case("layers.blocks")
    norm = FrozenBatchNorm2d(8)
    shapes = {name: [list(t.shape), "float32"] for name, t in norm.state_dict().items()}
    assert shapes == case.outputs["frozen_bn_state"]
    assert norm.eps == case.outputs["frozen_bn_eps"]
    filled(norm, case.params["seed"])
    x = case.tensor("x")
    case.check("frozen_bn_eval", norm(x))
    case.check("frozen_bn_grad_mode", norm(x.requires_grad_()))


def test_fresh_frozen_norm_is_the_identity():
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(FrozenBatchNorm2d(3)(x), x)


def test_frozen_norm_passes_gradients_and_has_no_parameters():
    norm = random_frozen_norm(3)
    assert not list(norm.parameters())
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    norm(x).sum().backward()
    scale, _ = norm.scale_and_shift()
    torch.testing.assert_close(x.grad, scale.view(1, 3, 1, 1).expand_as(x))


@pytest.mark.parametrize("needs_grad", [True, False])
def test_frozen_norm_keeps_half_precision(needs_grad):
    x = torch.randn(1, 3, 4, 4, dtype=torch.bfloat16, requires_grad=needs_grad)
    assert random_frozen_norm(3)(x).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.SyncBatchNorm, NaiveSyncBatchNorm])
def test_converting_keeps_the_function(kind):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(kind(4, eps=1e-3)))
    norm = model[1][0]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 5, 5)
    want = model.eval()(x)
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(model)
    assert frozen is model
    assert type(model[1][0]) is FrozenBatchNorm2d
    torch.testing.assert_close(model(x), want)
    FrozenBatchNorm2d.convert_frozenbatchnorm2d_to_batchnorm2d(model)
    assert type(model[1][0]) is nn.BatchNorm2d
    torch.testing.assert_close(model.eval()(x), want)


def test_converting_a_norm_without_affine_gives_weight_one():
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(nn.BatchNorm2d(3, affine=False))
    assert frozen.weight.tolist() == [1, 1, 1]
    assert frozen.bias.tolist() == [0, 0, 0]


def test_state_of_another_package_without_statistics_loads():
    norm = FrozenBatchNorm2d(2)
    norm.load_state_dict({"weight": torch.ones(2) * 3, "bias": torch.ones(2)})
    assert norm.running_mean.tolist() == [0, 0]
    assert norm.running_var.tolist() == [1, 1]


def test_state_of_version_2_had_eps_within_the_variance():
    state = FrozenBatchNorm2d(2).state_dict()
    state["running_var"] = torch.full((2,), 4.0)
    state._metadata[""]["version"] = 2
    norm = FrozenBatchNorm2d(2, eps=0.5)
    norm.load_state_dict(state)
    assert norm.running_var.tolist() == [3.5, 3.5]
    assert state["running_var"].tolist() == [4, 4]  # the file's own values stay


@pytest.mark.parametrize(
    "name, kind",
    [
        ("BN", nn.BatchNorm2d),
        ("SyncBN", nn.SyncBatchNorm),
        ("nnSyncBN", nn.SyncBatchNorm),
        ("FrozenBN", FrozenBatchNorm2d),
        ("GN", nn.GroupNorm),
        ("naiveSyncBN", NaiveSyncBatchNorm),
        ("naiveSyncBN_N", NaiveSyncBatchNorm),
        ("LN", LayerNorm),
    ],
)
def test_every_name_gives_its_norm(name, kind):
    norm = get_norm(name, 64)
    assert type(norm) is kind
    assert norm.weight.shape == (64,)
    assert norm(torch.randn(2, 64, 3, 3)).shape == (2, 64, 3, 3)


def test_no_norm_a_callable_and_a_wrong_name():
    assert get_norm("", 8) is None
    assert get_norm(None, 8) is None
    assert get_norm(lambda channels: nn.GroupNorm(2, channels), 8).num_groups == 2
    with pytest.raises(ValueError, match=r"'BatchNorm'.*'BN'"):
        get_norm("BatchNorm", 8)


def test_layer_norm_is_over_channels():
    x = torch.randn(2, 6, 3, 4)
    y = LayerNorm(6)(x)
    torch.testing.assert_close(y.mean(dim=1), torch.zeros(2, 3, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        y.var(dim=1, unbiased=False), torch.ones(2, 3, 4), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("affine", [True, False])
def test_cycle_takes_norms_in_turn(affine):
    norms = CycleBatchNormList(2, num_features=3, affine=affine)
    assert len(list(norms.parameters())) == 2 * affine
    norms(torch.full((1, 3, 4, 4), 5.0))
    norms(torch.full((1, 3, 4, 4), 7.0))
    norms(torch.full((1, 3, 4, 4), 5.0))
    assert [norm.num_batches_tracked.item() for norm in norms] == [2, 1]
    torch.testing.assert_close(norms[1].running_mean, torch.full((3,), 0.7))


class OtherProcess:
    """Stands in for the collective: adds the statistics that a second process would send."""

    def __init__(self, monkeypatch, others):
        self.others = others
        monkeypatch.setattr(batch_norm, "_world_size", lambda: 2)
        monkeypatch.setattr(batch_norm, "all_reduce", self)

    def __call__(self, moments):
        return moments + self.others


def moments_of(x):
    return torch.cat([x.mean((0, 2, 3)), (x * x).mean((0, 2, 3))])


@pytest.mark.parametrize("mode, sizes", [("", (2, 2)), ("N", (1, 3)), ("N", (0, 3))])
def test_synchronized_norm_is_the_norm_of_the_joint_batch(monkeypatch, mode, sizes):
    x = torch.randn(sum(sizes), 3, 4, 4)
    mine, theirs = x[: sizes[0]], x[sizes[0] :]
    others = moments_of(theirs)
    if mode == "N":
        others = torch.cat([others, torch.ones(1)]) * len(theirs)
    OtherProcess(monkeypatch, others)
    norm, joint = NaiveSyncBatchNorm(3, stats_mode=mode), nn.BatchNorm2d(3)
    want = joint(x)[: sizes[0]]
    torch.testing.assert_close(norm(mine), want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.running_mean, joint.running_mean)


def test_synchronized_norm_of_nothing_at_all_keeps_its_statistics(monkeypatch):
    OtherProcess(monkeypatch, torch.zeros(7))
    norm = NaiveSyncBatchNorm(3, stats_mode="N")
    x = torch.zeros(0, 3, 4, 4, requires_grad=True)
    norm(x).sum().backward()
    assert norm.running_mean.tolist() == [0, 0, 0]
    assert norm.running_var.tolist() == [1, 1, 1]


def test_unknown_stats_mode_is_refused():
    with pytest.raises(ValueError, match="'M'"):
        NaiveSyncBatchNorm(3, stats_mode="M")
