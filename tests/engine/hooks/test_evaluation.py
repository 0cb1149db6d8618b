import pytest

from d2lite.engine import hooks
from d2lite.utils.events import get_event_storage
from tests.engine.hooks.trainers import make_trainer


@pytest.mark.parametrize(
    "period, after_train, expected", [(2, True, [1, 3, 5]), (2, False, [1, 3]), (0, True, [5])]
)
def test_evaluation_is_periodic_and_after_training(period, after_train, expected):
    calls = []

    def evaluate():
        calls.append(min(get_event_storage().iter, 5))
        return {"bbox": {"AP": 10.0 * len(calls)}}

    trainer = make_trainer(hooks.EvalHook(period, evaluate, eval_after_train=after_train))
    trainer.train(0, 6)
    assert calls == expected
    assert trainer.storage.latest()["bbox/AP"][0] == 10.0 * len(expected)


def test_evaluation_must_return_floats():
    trainer = make_trainer(hooks.EvalHook(1, lambda: {"bbox": {"AP": "high"}}))
    with pytest.raises(ValueError, match=r"'high' for bbox/AP"):
        trainer.train(0, 2)


def test_no_evaluation_after_a_failed_training():
    calls = []

    def fail(trainer):
        raise RuntimeError

    trainer = make_trainer(
        hooks.CallbackHook(after_step=fail), hooks.EvalHook(0, lambda: calls.append(1))
    )
    with pytest.raises(RuntimeError):
        trainer.train(0, 2)
    assert calls == []
