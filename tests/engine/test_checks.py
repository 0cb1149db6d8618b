"""Settings that contradict each other are told before anything is built."""

import pytest

from d2lite.engine.checks import (
    check_evaluation_settings,
    check_evaluators,
    check_keypoints,
    check_test_classes,
    check_training_settings,
)
from tests.engine.tiny import tiny_cfg


@pytest.mark.parametrize(
    "metric, period, named",
    [("", 5, r"BEST_METRIC is '' and"), ("bbox/AP", 0, r"'bbox/AP' and TEST\.EVAL_PERIOD 0;")],
)
def test_patience_needs_a_metric_and_evaluations(tmp_path, metric, period, named):
    changes = {"TEST__BEST_METRIC": metric, "TEST__EVAL_PERIOD": period}
    cfg = tiny_cfg(tmp_path, TEST__PATIENCE=2, DATASETS__TEST=("shapes_val",), **changes)
    with pytest.raises(ValueError, match=rf"TEST\.PATIENCE is 2, .*{named}"):
        check_training_settings(cfg)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"SOLVER__BASE_LR": float("nan")}, r"SOLVER\.BASE_LR is nan; expected finite numbers"),
        ({"SOLVER__ACCUMULATE_STEPS": 3}, r"ACCUMULATE_STEPS is 3, but each process has 2 images"),
        (
            {"INPUT__CROP__ENABLED": True, "INPUT__CROP__SIZE": [0.9, 90.0]},
            r"INPUT\.CROP\.SIZE is \[0\.9, 90\.0\]; .* each from 0 to 1",
        ),
        ({"OUTPUT_DIR": __file__}, r"OUTPUT_DIR is '\S+test_checks\.py', which is a file"),
        ({"TEST__LOSS_PERIOD": 5}, r"TEST\.LOSS_PERIOD is 5, but DATASETS\.TEST is empty"),
    ],
)
def test_wrong_training_settings_name_their_key(tmp_path, changes, message):
    cfg = tiny_cfg(tmp_path)
    cfg.merge_from_list(
        [x for key, value in changes.items() for x in (key.replace("__", "."), value)]
    )
    with pytest.raises(ValueError, match=message):
        check_training_settings(cfg)


def test_an_evaluation_needs_a_test_set_and_tells_that_weights_are_random(tmp_path, caplog):
    with pytest.raises(ValueError, match=r"DATASETS\.TEST is empty, so there is nothing"):
        check_evaluation_settings(tiny_cfg(tmp_path))
    check_evaluation_settings(tiny_cfg(tmp_path, DATASETS__TEST=("shapes_val",)))
    assert "a model with random weights is evaluated" in caplog.text


def test_classes_of_test_sets_are_matched_by_name(tmp_path):
    check_test_classes(tiny_cfg(tmp_path, DATASETS__TEST=("shapes_val",)))
    cfg = tiny_cfg(tmp_path, DATASETS__TEST=("voc_2007_test",))
    with pytest.raises(ValueError, match=r"DATASETS\.TEST voc_2007_test"):
        check_test_classes(cfg)


def test_number_of_keypoints_is_that_of_the_data(tmp_path):
    cfg = tiny_cfg(tmp_path, MODEL__KEYPOINT_ON=True, MODEL__ROI_KEYPOINT_HEAD__NUM_KEYPOINTS=2)
    with pytest.raises(ValueError, match=r"NUM_KEYPOINTS is 2, but dataset 'shapes_train' has"):
        check_keypoints(cfg)
    cfg.MODEL.KEYPOINT_ON = False
    check_keypoints(cfg)


@pytest.mark.parametrize("best, is_known", [("bbox/AP", True), ("bbox/AQ", False)])
def test_a_best_metric_that_is_not_reported_is_a_warning(tmp_path, caplog, best, is_known):
    check_evaluators(tiny_cfg(tmp_path, DATASETS__TEST=("shapes_val",), TEST__BEST_METRIC=best))
    assert ("'bbox/AQ', which no evaluator reports" in caplog.text) != is_known
