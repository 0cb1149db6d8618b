"""Epochs as a unit of time."""

import pytest

from d2lite.engine import hooks
from d2lite.engine.epochs import count_images, epochs_done, with_periods_of_epochs
from tests.engine.toy_run import toy_cfg
from tests.reliability.toy import ToyTrainer


@pytest.mark.parametrize(
    "iterations, expected", [(0, 0), (3, 0), (4, 1), (6, 1), (7, 2), (10, 3), (20, 6)]
)
def test_an_epoch_ends_with_the_iteration_that_takes_its_last_image(iterations, expected):
    # 10 images by 3: image 10 comes in the 4th iteration, image 20 in the 7th, 30 in the 10th.
    assert epochs_done(iterations, 10, 3) == expected


def test_periods_are_given_in_epochs(tmp_path):
    # The toy has 24 images, of which all have objects, and takes 2 of them at a time.
    cfg = toy_cfg(tmp_path, TEST__EVAL_EPOCHS=1.0, SOLVER__CHECKPOINT_EPOCHS=0.3)
    cfg.freeze()
    trainer = ToyTrainer(cfg)
    assert trainer.cfg.TEST.EVAL_PERIOD == 12
    assert trainer.cfg.SOLVER.CHECKPOINT_PERIOD == 4  # 3.6, rounded up
    assert trainer.cfg.is_frozen() and cfg.TEST.EVAL_PERIOD == 3
    (hook,) = [hook for hook in trainer._hooks if isinstance(hook, hooks.EvalHook)]
    assert hook._period == 12


def test_zero_leaves_the_periods_in_iterations(tmp_path):
    cfg = toy_cfg(tmp_path)
    assert with_periods_of_epochs(cfg, iter([])) is cfg


def test_a_loader_without_a_length_has_no_epochs():
    with pytest.raises(ValueError, match=r"list_iterator does not know .* TEST\.EVAL_EPOCHS"):
        count_images(iter([]))
