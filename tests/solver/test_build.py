import logging

import pytest
import torch
from torch import nn

from d2lite.config import get_cfg
from d2lite.solver import (
    LRScheduler,
    build_lr_scheduler,
    build_optimizer,
    get_default_optimizer_params,
)
from d2lite.solver.build import (
    GradientClipType,
    maybe_add_gradient_clipping,
    reduce_param_groups,
)
from tests.golden import load_case

SCHEDULES = load_case("solver.lr_schedules")
GROUPS = load_case("solver.param_groups")
CLIPPING = load_case("solver.gradient_clipping")


def config(**keys):
    cfg = get_cfg()
    for key, value in keys.items():
        node = cfg.SOLVER
        *parents, leaf = key.removeprefix("SOLVER.").split(".")
        for parent in parents:
            node = node[parent]
        setattr(node, leaf, value)
    return cfg


class Various(nn.Module):
    """The model that the golden case describes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.gn = nn.GroupNorm(2, 4)
        self.fc = nn.Linear(2, 2)
        self.tied = self.fc
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.embedding = nn.Parameter(torch.zeros(2))


def named_groups(model, groups):
    names = {id(p): name for name, p in model.named_parameters()}
    kept = ("lr", "weight_decay")
    return [
        {
            "params": [names[id(p)] for p in group["params"]],
            **{k: pytest.approx(v) for k, v in group.items() if k in kept},
        }
        for group in groups
    ]


@pytest.mark.parametrize("name", SCHEDULES.params["cfgs"])
def test_schedule_equals_detectron2(name):
    cfg = config(**SCHEDULES.params["cfgs"][name])
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    assert isinstance(scheduler, LRScheduler)
    rates = []
    for _ in range(cfg.SOLVER.MAX_ITER):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    SCHEDULES.check(name, rates)


@pytest.mark.parametrize("name", [*GROUPS.params["calls"], "lr_factor_func"])
def test_groups_equal_detectron2(name):
    kwargs = GROUPS.params["calls"].get(name)
    if kwargs is None:
        kwargs = {"base_lr": 0.1, "lr_factor_func": lambda n: 0.5 if "conv" in n else 1.0}
    model = Various()
    groups = get_default_optimizer_params(model, **kwargs)
    assert named_groups(model, groups) == GROUPS.outputs[name]


@pytest.mark.parametrize("name", GROUPS.params["optimizers"])
def test_optimizer_equals_detectron2(name):
    model, want = Various(), GROUPS.outputs[name]
    optimizer = build_optimizer(config(**GROUPS.params["optimizers"][name]), model)
    assert named_groups(model, optimizer.param_groups) == want["groups"]
    assert isinstance(optimizer, torch.optim.SGD)
    for key in ("momentum", "nesterov"):
        assert optimizer.defaults[key] == want[key]


@pytest.mark.parametrize("as_class", [False, True])
@pytest.mark.parametrize("name", CLIPPING.params["cfgs"])
def test_clipped_step_equals_detectron2(name, as_class):
    cfg = config(**CLIPPING.params["cfgs"][name])
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(CLIPPING.tensor("w"))
        model.bias.copy_(CLIPPING.tensor("b"))
    if as_class:
        optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD)(model.parameters(), lr=1.0)
        assert isinstance(optimizer, torch.optim.SGD)
    else:
        optimizer = build_optimizer(cfg, model)
    model.weight.grad = CLIPPING.tensor("gw")
    model.bias.grad = CLIPPING.tensor("gb")
    optimizer.step()
    CLIPPING.check(f"{name}.w", model.weight)
    CLIPPING.check(f"{name}.b", model.bias)


def test_without_clipping_the_optimizer_stays_as_it_is():
    assert maybe_add_gradient_clipping(get_cfg(), torch.optim.SGD) is torch.optim.SGD


def test_parameter_without_gradient_is_no_matter_to_clipping():
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(config(**{"CLIP_GRADIENTS.ENABLED": True}), model)
    model.bias.grad = torch.full((2,), 8.0)
    optimizer.step()
    assert model.bias.grad.tolist() == [1.0, 1.0]


def test_clip_types_are_those_of_the_config():
    assert {kind.value for kind in GradientClipType} == {"value", "norm"}
    cfg = config(**{"CLIP_GRADIENTS.ENABLED": True, "CLIP_GRADIENTS.CLIP_TYPE": "valu"})
    with pytest.raises(ValueError, match=r"CLIP_TYPE is 'valu'.*Did you mean 'value'"):
        build_optimizer(cfg, nn.Linear(1, 1))


def test_backbone_has_a_factor_of_its_own():
    model = nn.ModuleDict({"backbone": nn.Conv2d(1, 1, 1), "head": nn.Linear(1, 1)})
    model["backbone_neck"] = nn.Linear(1, 1)  # is none
    cfg = config(BASE_LR=0.5, BACKBONE_LR_FACTOR=0.25, BIAS_LR_FACTOR=2.0)
    groups = named_groups(model, build_optimizer(cfg, model).param_groups)
    assert {name: group["lr"] for group in groups for name in group["params"]} == {
        "backbone.weight": 0.125,
        "backbone.bias": 0.25,
        "head.weight": 0.5,
        "head.bias": 1.0,
        "backbone_neck.weight": 0.5,
        "backbone_neck.bias": 1.0,
    }


def test_factor_for_the_backbone_of_a_model_without_one_names_its_key():
    with pytest.raises(ValueError, match=r"SOLVER\.BACKBONE_LR_FACTOR is 0\.1.*Linear"):
        build_optimizer(config(BACKBONE_LR_FACTOR=0.1), nn.Linear(1, 1))


def test_adamw_takes_betas_and_group_rules():
    cfg = config(OPTIMIZER_NAME="AdamW", BETAS=(0.8, 0.95), BASE_LR=0.01, WEIGHT_DECAY=0.1)
    optimizer = build_optimizer(cfg, nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
    assert {g["betas"] for g in optimizer.param_groups} == {(0.8, 0.95)}


def test_first_adamw_step_by_hand():
    cfg = config(OPTIMIZER_NAME="AdamW", BASE_LR=0.1, WEIGHT_DECAY=0.5)
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimizer = build_optimizer(cfg, model)
    model.weight.grad = torch.full((1, 1), 3.0)
    optimizer.step()
    # decay 2 * (1 - 0.1 * 0.5) = 1.9, then a first step of the learning rate's size
    assert model.weight.item() == pytest.approx(1.8, abs=1e-6)


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"OPTIMIZER_NAME": "Adamw"}, "OPTIMIZER_NAME is 'Adamw'.*Did you mean 'AdamW'"),
        ({"OPTIMIZER_NAME": "Lion"}, r"use one of \['AdamW', 'SGD'\]"),
    ],
)
def test_unknown_optimizer_is_named(keys, message):
    with pytest.raises(ValueError, match=message):
        build_optimizer(config(**keys), nn.Linear(1, 1))


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"LR_SCHEDULER_NAME": "WarmupCosine"}, "Did you mean 'WarmupCosineLR'"),
        ({"MAX_ITER": 0}, "MAX_ITER is 0"),
        ({"STEPS": (20, 10), "MAX_ITER": 30}, r"STEPS is \(20, 10\)"),
        ({"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR_END": 1.0}, "BASE_LR_END is 1.0"),
    ],
)
def test_schedule_that_cannot_be_is_named(keys, message):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ValueError, match=message):
        build_lr_scheduler(config(**keys), optimizer)


def test_steps_beyond_the_end_are_warned_of(caplog):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with caplog.at_level(logging.WARNING, "d2lite"):
        build_lr_scheduler(config(STEPS=(10, 30), MAX_ITER=30), optimizer)
    assert "(10, 30)" in caplog.text


@pytest.mark.parametrize(
    "name, end",
    [
        ("WarmupMultiStepLR", 0.1),
        ("WarmupCosineLR", 0.0),
        ("WarmupStepWithFixedGammaLR", 0.001),  # three times GAMMA
    ],
)
@pytest.mark.parametrize("method", ["linear", "constant"])
@pytest.mark.parametrize("warmup_iters", [0, 4, 1000])
def test_the_step_after_the_last_iteration_reaches_the_end(name, end, method, warmup_iters):
    cfg = config(
        LR_SCHEDULER_NAME=name,
        MAX_ITER=10,
        STEPS=(5,),
        WARMUP_ITERS=warmup_iters,
        WARMUP_METHOD=method,
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build_lr_scheduler(cfg, optimizer)
    for _ in range(10):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(end)


def test_settings_that_need_base_lr_ask_for_it():
    with pytest.raises(ValueError, match="bias_lr_factor"):
        get_default_optimizer_params(nn.Linear(1, 1), bias_lr_factor=2.0)
    with pytest.raises(ValueError, match="lr_factor_func"):
        get_default_optimizer_params(nn.Linear(1, 1), lr_factor_func=lambda name: 1.0)


def test_bias_settings_are_given_once():
    with pytest.raises(ValueError, match="'bias'"):
        get_default_optimizer_params(
            nn.Linear(1, 1), weight_decay_bias=0.0, overrides={"bias": {"lr": 1.0}}
        )


def test_frozen_model_is_an_error():
    with pytest.raises(ValueError, match="no trainable parameter"):
        build_optimizer(get_cfg(), nn.Linear(1, 1).requires_grad_(False))


def test_groups_of_equal_settings_merge_and_later_ones_win():
    a, b, c = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    groups = [
        {"params": [a, b], "lr": 1.0, "weight_decay": 0.0},
        {"params": [c], "weight_decay": 0.0, "lr": 1.0},
        {"params": [b], "lr": 2.0},
    ]
    merged = reduce_param_groups(groups)
    assert [len(g["params"]) for g in merged] == [2, 1]
    assert merged[0]["params"][0] is a and merged[0]["params"][1] is c
    assert merged[1] == {"params": [b], "lr": 2.0, "weight_decay": 0.0}


def steps_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    for param in model.parameters():
        param.data.copy_(torch.randn(param.shape, generator=generator))
    for _ in range(4):
        for param in model.parameters():
            param.grad = torch.randn(param.shape, generator=generator)
        optimizer.step()
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("amp", [False, True])
def test_steps_are_those_of_plain_sgd_and_the_same_each_time(amp):
    cfg = config(BASE_LR=0.1, NESTEROV=True, **{"AMP.ENABLED": amp})
    model, again, plain = nn.Linear(50, 31), nn.Linear(50, 31), nn.Linear(50, 31)
    optimizer = build_optimizer(cfg, model)
    assert optimizer.defaults["fused"] is (None if amp else True)
    reference = torch.optim.SGD(
        plain.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4, foreach=False
    )
    got = steps_of(optimizer, model)
    torch.testing.assert_close(got, steps_of(reference, plain), rtol=0, atol=1e-6)
    repeated = steps_of(build_optimizer(cfg, again), again)
    assert all(torch.equal(value, repeated[name]) for name, value in got.items())
