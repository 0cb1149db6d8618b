"""How errors and Ctrl-C end a program."""

import pytest

from d2lite.utils import cli, comm
from d2lite.utils.cli import TRACEBACK, USER_ERRORS, report_user_errors


@pytest.fixture(autouse=True)
def no_traceback(monkeypatch):
    monkeypatch.delenv(TRACEBACK, raising=False)


def end(error: BaseException) -> int:
    """Return the exit status of a program that raises an error."""
    with pytest.raises(SystemExit) as stop, report_user_errors():
        raise error
    return stop.value.code


@pytest.mark.parametrize("kind", USER_ERRORS)
def test_errors_end_the_program_with_their_message(kind, capsys):
    assert end(kind("a.json has no 'images'")) == 1
    message, hint = capsys.readouterr().err.splitlines()
    assert message == f"{kind.__name__}: a.json has no 'images'"  # a KeyError's too, unquoted
    assert hint == f"(set {TRACEBACK}=1 to see where it was raised)"


def test_characters_that_move_the_cursor_are_escaped(capsys):
    assert end(ValueError("a\x1b[2Jb")) == 1
    assert "ValueError: a\\x1b[2Jb\n" in capsys.readouterr().err


@pytest.mark.parametrize("error", [TypeError("a slip of ours"), ZeroDivisionError("x")])
def test_errors_of_the_program_itself_keep_their_traceback(error):
    with pytest.raises(type(error), match=str(error)), report_user_errors():
        raise error


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_a_traceback_can_be_asked_for(error, monkeypatch, capsys):
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(type(error)), report_user_errors():
        raise error
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "stop, message",
    [(KeyboardInterrupt(), "Interrupted"), (KeyboardInterrupt("Stopped at 5"), "Stopped at 5")],
)
def test_an_interrupt_ends_with_the_status_of_shells(stop, message, capsys):
    assert end(stop) == 130
    assert capsys.readouterr().err == f"\n{message}\n"


def test_other_processes_wait_for_the_main_one_and_give_their_rank(monkeypatch, capsys):
    waits = []
    monkeypatch.setattr(comm, "get_rank", lambda: 2)
    monkeypatch.setattr(comm, "get_world_size", lambda: 4)
    monkeypatch.setattr(cli.time, "sleep", waits.append)
    assert end(ValueError("bad")) == 1
    assert len(waits) == 1 and waits[0] > 0
    assert capsys.readouterr().err.startswith("process 2: ValueError: bad\n")
    assert end(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""  # the main process has said it


def test_programs_without_an_error_go_on(capsys):
    with report_user_errors():
        done = True
    assert done and capsys.readouterr().err == ""
