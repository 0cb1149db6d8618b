"""A training program from its arguments to results."""

import pytest

from d2lite.engine import (
    TrainerWithTTA,
    default_argument_parser,
    hooks,
    train_or_evaluate,
)
from tests.engine.tiny import overrides, tiny_cfg
from tests.project_checks import few_images


@pytest.mark.parametrize("is_on", [False, True])
def test_the_evaluation_with_augmentation_comes_before_the_writers(tmp_path, is_on):
    trainer = TrainerWithTTA(tiny_cfg(tmp_path, TEST__AUG__ENABLED=is_on))
    kinds = [type(hook) for hook in trainer._hooks]
    assert kinds.count(hooks.EvalHook) == 1 + is_on
    writer = kinds.index(hooks.PeriodicWriter)
    assert (kinds[writer - 1] is hooks.EvalHook) == is_on or not is_on


def test_metrics_with_augmentation_have_a_suffix(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainerWithTTA, "test", lambda cfg, model: {"bbox": {"AP": 1.0}})
    cfg = tiny_cfg(tmp_path, MODEL__ROI_HEADS__NUM_CLASSES=6)
    model = TrainerWithTTA.build_model(cfg)
    assert TrainerWithTTA.test_with_TTA(cfg, model) == {"bbox_TTA": {"AP": 1.0}}


def test_training_and_evaluation_give_the_same_results(tmp_path):
    with few_images("shapes_val") as data:
        changes = {"DATASETS__TEST": (data,), "SOLVER__MAX_ITER": 1, "SOLVER__STEPS": ()}
        words = [str(word) for word in overrides(OUTPUT_DIR=str(tmp_path), **changes)]

        def ap(*flags):
            args = default_argument_parser().parse_args([*flags, *words])
            return train_or_evaluate(args, TrainerWithTTA)["bbox"]["AP"]

        trained = ap()
        assert 0 <= trained <= 100
        assert ap("--eval-only", "--resume") == trained
