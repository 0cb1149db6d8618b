import logging
import re

import pytest

from d2lite.config import get_cfg
from d2lite.evaluation import print_csv_format, verify_results
from d2lite.evaluation.testing import flatten_results_dict

RESULTS = {"bbox": {"AP": 12.34567, "AP50": float("nan"), "AP-cat": 1.0}, "time": 3.5}


def test_csv_lines_have_the_main_metrics(caplog):
    caplog.set_level(logging.INFO)
    print_csv_format(RESULTS)
    assert [r.message for r in caplog.records] == [
        "copypaste: Task: bbox",
        "copypaste: AP,AP50",
        "copypaste: 12.3457,nan",
        "copypaste: time=3.5",
    ]


def test_csv_of_nothing_is_nothing_and_of_a_list_an_error(caplog):
    print_csv_format({})
    print_csv_format([])  # what another process may have got
    assert not caplog.records
    with pytest.raises(TypeError, match="mapping"):
        print_csv_format([1.0])


def config(expected):
    cfg = get_cfg()
    cfg.TEST.EXPECTED_RESULTS = expected
    return cfg


def test_results_within_tolerance_pass():
    assert verify_results(config([["bbox", "AP", 12.0, 0.5]]), RESULTS)
    assert verify_results(config([]), {})


@pytest.mark.parametrize(
    "row, message",
    [
        (["bbox", "AP", 13.0, 0.5], r"bbox/AP: found 12.3457, expected 13.0 \+- 0.5"),
        (["bbox", "AP50", 13.0, 50.0], "bbox/AP50: found nan"),
        (["segm", "AP", 13.0, 50.0], "segm/AP: expected 13.0, but the evaluation did not report"),
    ],
)
def test_other_results_end_the_program(row, message, caplog):
    with pytest.raises(SystemExit) as stop:
        verify_results(config([["bbox", "AP", 12.0, 0.5], row]), RESULTS)
    assert stop.value.code == 1
    failures = caplog.records[0].message.splitlines()
    assert len(failures) == 2
    assert re.search(message, failures[1])


def test_nested_results_are_flattened():
    assert flatten_results_dict({"a": {"b": {"c": 1}, "d": 2}, "e": 3}) == {
        "a/b/c": 1,
        "a/d": 2,
        "e": 3,
    }
