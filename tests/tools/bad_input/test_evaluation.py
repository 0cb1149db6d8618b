"""Errors and warnings of train_net.py for evaluations that lack a test set, weights or metric."""

import re

from tests.tools.bad_input.runs import test_on, train_on


def test_evaluation_of_random_weights_is_a_warning(main, good):
    outcome = main("--eval-only", **train_on(good), **test_on(good))
    assert outcome.code == 0
    assert "MODEL.WEIGHTS is empty: a model with random weights is evaluated" in outcome.out


def test_evaluation_on_nothing(main, good):
    outcome = main("--eval-only", **train_on(good))
    assert outcome.code == 1
    assert "DATASETS.TEST is empty, so there is nothing to evaluate on" in outcome.error


def test_a_misspelled_metric_is_told_at_the_first_evaluation(main, good):
    outcome = main(TEST__BEST_METRIC="bbox/APP", **train_on(good), **test_on(good))
    assert outcome.code == 0
    assert re.search(r"No bbox/APP was evaluated.* Did you mean 'bbox/AP", outcome.out)
