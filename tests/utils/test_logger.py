import logging
import re
import sys

import pytest

from d2lite.utils import logger as logger_module
from d2lite.utils.logger import (
    create_small_table,
    log_every_n,
    log_every_n_seconds,
    log_first_n,
    setup_logger,
)
from tests.full_disk import no_room


@pytest.fixture
def name(request):
    """A logger of its own for each test, left without handlers."""
    name = f"logger_of_{request.node.name}"
    yield name
    logging.getLogger(name).handlers.clear()


@pytest.fixture
def messages(monkeypatch):
    """Messages logged to the logger "counted"."""
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    logger = logging.getLogger("counted")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield seen
    logger.removeHandler(handler)


def test_lines_go_to_the_terminal_and_to_the_file(tmp_path, name, capsys):
    logger = setup_logger(str(tmp_path), name=name, abbrev_name="short")
    logging.getLogger(f"{name}.part").info("hello")
    pattern = r"\[\d\d/\d\d \d\d:\d\d:\d\d\] short\.part INFO: hello\n"
    assert re.fullmatch(pattern, capsys.readouterr().out)
    assert re.fullmatch(pattern, (tmp_path / "log.txt").read_text())
    assert not logger.propagate


def test_repeated_set_up_writes_lines_once(tmp_path, name, capsys):
    for output in (None, str(tmp_path), str(tmp_path)):
        logger = setup_logger(output, name=name)
    logger.warning("message")
    assert capsys.readouterr().out.count("message") == 1
    assert (tmp_path / "log.txt").read_text().count("message") == 1


def test_a_full_disk_is_told_once_and_its_lines_come_later(tmp_path, name, capsys):
    logger = setup_logger(str(tmp_path), name=name)
    logger.info("before")
    size = (tmp_path / "log.txt").stat().st_size
    with no_room(size):
        logger.info("one")
        logger.info("two")
    logger.info("after")
    err = capsys.readouterr().err
    assert err.count("log.txt cannot be written: File too large") == err.count("\n") == 1
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["before", "one", "two", "after"]


def test_other_ranks_write_to_files_of_their_own_only(tmp_path, name, capsys):
    setup_logger(str(tmp_path / "train.log"), distributed_rank=1, name=name).info("hello")
    assert capsys.readouterr().out == ""
    assert "hello" in (tmp_path / "train.log.rank1").read_text()


def test_terminal_lines_are_colored_and_files_are_not(tmp_path, name, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    setup_logger(str(tmp_path), name=name).error("bad")
    assert "\x1b[" in capsys.readouterr().out
    assert "\x1b[" not in (tmp_path / "log.txt").read_text()


def test_package_is_abbreviated_by_default(capsys):
    package = logging.getLogger("d2lite")
    before = package.handlers[:], package.level, package.propagate
    package.handlers = []
    try:
        setup_logger()
        logging.getLogger("d2lite.data").info("hello")
        assert " d2.data INFO: hello" in capsys.readouterr().out
    finally:
        package.handlers, package.level, package.propagate = before


def test_log_first_n_counts_by_line_of_code(messages):
    for i in range(5):
        log_first_n(logging.INFO, f"message {i}", n=2, name="counted")
    assert messages == ["message 0", "message 1"]


def test_log_first_n_counts_by_message(messages):
    for text in "abab":
        log_first_n(logging.INFO, text, name="counted", key="message")
    log_first_n(logging.INFO, "a", name="counted", key=("caller", "message"))
    assert messages == ["a", "b", "a"]


def test_log_first_n_refuses_another_key():
    with pytest.raises(ValueError, match="'caller'"):
        log_first_n(logging.INFO, "x", key="color")


def test_log_every_n(messages):
    for i in range(7):
        log_every_n(logging.INFO, str(i), n=3, name="counted")
    assert messages == ["0", "3", "6"]


def test_log_every_n_seconds(messages, monkeypatch):
    clock = iter([0.0, 4.0, 9.0, 11.0])
    monkeypatch.setattr(logger_module.time, "monotonic", lambda: next(clock))
    for i in range(4):
        log_every_n_seconds(logging.INFO, str(i), n=5, name="counted")
    assert messages == ["0", "2"]


def test_small_table_has_keys_over_values():
    header, _, row = create_small_table({"AP": 12.3456, "AP50": 50}).splitlines()
    assert header.split() == ["|", "AP", "|", "AP50", "|"]
    assert row.split() == ["|", "12.346", "|", "50.000", "|"] or "12.346" in row
    assert create_small_table({}) == ""


def test_control_characters_are_written_as_escapes(tmp_path, name, capsys):
    logger = setup_logger(str(tmp_path), name=name)
    logger.warning("%s: no such file\n\tsecond line", "a\x1b[2J\x07\r\u202eb\x9b\ud800\u00e9")
    for shown in (capsys.readouterr().out, (tmp_path / "log.txt").read_text()):
        assert "a\\x1b[2J\\x07\\r\\u202eb\\x9b\\ud800\u00e9: no such file\n\tsecond line" in shown
