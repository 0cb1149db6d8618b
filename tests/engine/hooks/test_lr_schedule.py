import pytest
import torch
from fvcore.common.param_scheduler import LinearParamScheduler, StepWithFixedGammaParamScheduler
from torch import nn

from d2lite.engine import hooks
from d2lite.solver import LRMultiplier
from tests.engine.hooks.trainers import make_trainer


def test_lr_is_logged_before_the_schedule_moves():
    trainer = make_trainer()
    schedule = torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda i: 1 / (i + 1))
    trainer.register_hooks([hooks.LRScheduler(scheduler=schedule)])
    trainer.train(0, 3)
    rates = [value for value, _ in trainer.storage.history("lr").values()]
    assert rates == pytest.approx([0.1, 0.05, 0.1 / 3])
    other = hooks.LRScheduler(
        scheduler=torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda i: 1 / (i + 1))
    )
    state = trainer._hooks[0].state_dict()
    other.load_state_dict(state)
    assert other.scheduler.last_epoch == 3


def test_schedule_may_be_a_function_of_progress():
    trainer = make_trainer(hooks.LRScheduler(scheduler=LinearParamScheduler(1.0, 0.0)))
    trainer.train(0, 4)
    rates = [value for value, _ in trainer.storage.history("lr").values()]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_schedule_without_a_value_at_its_end_serves_all_iterations():
    steps = StepWithFixedGammaParamScheduler(1.0, num_decays=1, gamma=0.1, num_updates=4)
    trainer = make_trainer(hooks.LRScheduler(scheduler=steps))
    trainer.train(0, 4)
    rates = [value for value, _ in trainer.storage.history("lr").values()]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01])
    # That of another training is too short, which is not passed over.
    short = LRMultiplier(trainer.optimizer, steps, max_iter=2)
    with pytest.raises(IndexError):
        make_trainer(hooks.LRScheduler(scheduler=short)).train(0, 4)


@pytest.mark.parametrize(
    "groups, expected",
    [
        ([(0.1, 1), (0.2, 3)], 1),  # the group with most parameters
        ([(0.1, 1), (0.2, 1), (0.2, 1)], 1),  # one group a parameter: the commonest rate
    ],
)
def test_rate_that_stands_for_all(groups, expected):
    parameters = [
        {"params": [nn.Parameter(torch.zeros(1)) for _ in range(count)], "lr": rate}
        for rate, count in groups
    ]
    optimizer = torch.optim.SGD(parameters)
    assert hooks.LRScheduler.get_best_param_group_id(optimizer) == expected
