import pytest
import torch
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    StepWithFixedGammaParamScheduler,
)

from d2lite import solver
from d2lite.solver import LRMultiplier, WarmupCosineLR, WarmupMultiStepLR, WarmupParamScheduler
from tests.golden import load_case

LEGACY = load_case("solver.lr_schedules_legacy")


def sgd(lr: float = 1.0) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(optimizer, scheduler, steps: int) -> list[float]:
    out = []
    for _ in range(steps):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


@pytest.mark.parametrize("name", LEGACY.params["calls"])
def test_old_schedulers_equal_detectron2(name):
    cls, kwargs = LEGACY.params["calls"][name]
    optimizer = sgd(LEGACY.params["base_lr"])
    scheduler = getattr(solver, cls)(optimizer, **kwargs)
    LEGACY.check(name, rates(optimizer, scheduler, LEGACY.params["iters"]))


def test_linear_warmup_by_hand():
    # from 0.1 to 1 in 3 of 10 iterations
    steps = MultiStepParamScheduler([1.0, 0.5], milestones=[6], num_updates=10)
    schedule = WarmupParamScheduler(steps, 0.1, 0.3)
    values = [schedule(i / 10) for i in range(10)]
    assert values == pytest.approx([0.1, 0.4, 0.7] + [1.0] * 3 + [0.5] * 4)


def test_warmup_ends_where_the_schedule_is_by_then():
    schedule = WarmupParamScheduler(CosineParamScheduler(1, 0), 0.0, 0.5)
    assert schedule(0.25) == pytest.approx(0.25)  # half of cos's 0.5
    assert schedule(0.5) == pytest.approx(0.5)


def test_rescaled_schedule_starts_after_warmup():
    schedule = WarmupParamScheduler(CosineParamScheduler(1, 0), 0.0, 0.5, rescale_interval=True)
    assert schedule(0.25) == pytest.approx(0.5)
    assert schedule(0.75) == pytest.approx(0.5)


@pytest.mark.parametrize("make", [WarmupMultiStepLR, WarmupParamScheduler])
def test_unknown_warmup_method_is_named(make):
    with pytest.raises(ValueError, match=r"'cubic'; use one of \['linear', 'constant'\]"):
        if make is WarmupParamScheduler:
            make(CosineParamScheduler(1, 0), 0.1, 0.1, "cubic")
        else:
            make(sgd(), [5], warmup_method="cubic")


def test_schedule_ends_with_its_end_value_and_stays_there():
    optimizer = sgd()
    scheduler = LRMultiplier(optimizer, CosineParamScheduler(1, 0.25), max_iter=4)
    values = rates(optimizer, scheduler, 6)
    assert values[3] == pytest.approx(0.35983496)  # 0.25 + 0.75 (1 + cos 3pi/4) / 2
    assert values[4] == values[5] == pytest.approx(0.25)


def test_schedule_without_a_value_at_its_end_says_so():
    optimizer = sgd()
    steps = StepWithFixedGammaParamScheduler(1.0, num_decays=1, gamma=0.1, num_updates=2)
    scheduler = LRMultiplier(optimizer, steps, max_iter=2)
    assert rates(optimizer, scheduler, 1) == [1.0]
    with pytest.raises(IndexError):
        scheduler.step()


def test_state_has_no_schedule_and_resumes_under_another():
    optimizer = sgd(0.2)
    scheduler = LRMultiplier(optimizer, CosineParamScheduler(1, 0), max_iter=10)
    rates(optimizer, scheduler, 4)
    state = scheduler.state_dict()
    assert state == {"base_lrs": [0.2], "last_epoch": 4}

    other = sgd(0.2)
    resumed = LRMultiplier(other, MultiStepParamScheduler([1, 0.5], milestones=[5, 10]), 10)
    resumed.load_state_dict(state)
    other.step()
    resumed.step()
    assert other.param_groups[0]["lr"] == pytest.approx(0.1)


def test_last_iter_takes_up_the_schedule():
    optimizer = sgd(1.0)
    optimizer.param_groups[0]["initial_lr"] = 1.0
    LRMultiplier(optimizer, CosineParamScheduler(1, 0), max_iter=10, last_iter=4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


def test_multiplier_has_to_be_a_param_scheduler():
    with pytest.raises(ValueError, match=r"not function"):
        LRMultiplier(sgd(), lambda where: 1.0, max_iter=10)


def test_milestones_have_to_ascend():
    with pytest.raises(ValueError, match="ascend"):
        WarmupMultiStepLR(sgd(), [5, 3])


def test_cosine_of_old_is_half_way_at_half_time():
    optimizer = sgd()
    scheduler = WarmupCosineLR(optimizer, 10, warmup_iters=0)
    assert rates(optimizer, scheduler, 6)[5] == pytest.approx(0.5)
