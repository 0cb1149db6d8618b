import os
import signal
import threading

import pytest

from d2lite.engine.interrupt import InterruptLater


@pytest.fixture
def usual_handler():
    """Python's own, also where the tests run with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_waits_for_the_check(usual_handler):
    with InterruptLater() as interrupt:
        interrupt.check()
        press()
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_acts_at_once(usual_handler):
    with InterruptLater():
        press()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_the_handlers_of_others_stay(usual_handler):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with InterruptLater() as interrupt:
        press()
        assert not interrupt.requested
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_threads_leave_signals_alone(usual_handler):
    def enter():
        with InterruptLater():
            seen.append(signal.getsignal(signal.SIGINT))

    seen = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
