"""Fixtures of the tests of bad input: the tool as a function, and a dataset without fault."""

import logging

import pytest

from d2lite.engine import default_argument_parser
from tests.engine.tiny import overrides
from tests.tools.bad_input.runs import Outcome, train_net, write_coco


@pytest.fixture
def main(tmp_path, capfd, monkeypatch):
    """Runs the tool in this process: flags, then changes of the tiny settings."""
    monkeypatch.delenv("D2LITE_TRACEBACK", raising=False)
    loggers = [logging.getLogger(name) for name in ("d2lite", "fvcore")]
    before = [(one, one.handlers[:], one.level, one.propagate) for one in loggers]

    def call(*flags: str, extra: tuple = (), folder=tmp_path / "run", **changes) -> Outcome:
        changes = {"SOLVER__MAX_ITER": 2, "SOLVER__STEPS": (1,), **changes}
        settings = map(str, overrides(OUTPUT_DIR=str(folder), **changes))
        code = 0
        try:
            train_net.main(default_argument_parser().parse_args([*flags, *settings, *extra]))
        except SystemExit as stop:
            code = stop.code
        finally:
            for one in loggers:
                one.handlers.clear()
        outcome = Outcome(code, *capfd.readouterr())
        assert "Traceback" not in outcome.out + outcome.err
        return outcome

    yield call
    for one, handlers, level, propagate in before:
        one.handlers, one.level, one.propagate = handlers, level, propagate


@pytest.fixture
def good(tmp_path):
    """URI of a dataset without fault."""
    return write_coco(tmp_path / "good")
