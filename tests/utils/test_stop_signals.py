import os
import signal
import subprocess
import sys
import threading

import pytest

from d2lite.utils.stop_signals import StopRequested, StopSignals, check_stop, signals_held


@pytest.fixture(autouse=True)
def usual_handler():
    """Python's own, also where the tests run with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_waits_for_the_next_good_moment(number, code):
    before = signal.getsignal(number)
    with StopSignals() as signals:
        check_stop()
        assert signals.agreed() == (0, False)
        send(number)
        assert signals.requested == number
        with pytest.raises(StopRequested) as stop:
            check_stop()
        assert stop.value.exit_code == code
        assert signals.agreed() == (number, False)
    assert signal.getsignal(number) is before
    check_stop()  # nothing is running any more


def test_the_second_ctrl_c_acts_at_once():
    with StopSignals():
        send()
        with pytest.raises(KeyboardInterrupt):
            send()


def test_the_second_sigterm_kills():
    program = """
import os, signal
from d2lite.utils.stop_signals import StopSignals
with StopSignals():
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        print("alive", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "alive\n")


def test_what_torchrun_passes_on_is_no_second_one(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with StopSignals() as signals:
        send()
        send()
        signals._requested_at -= 10
        with pytest.raises(KeyboardInterrupt):
            send()


def test_a_request_to_save_is_answered_once():
    with StopSignals() as signals:
        send(signal.SIGUSR1)
        check_stop()
        assert signals.agreed() == (0, True)
        assert signals.agreed() == (0, False)


def test_what_launch_passes_on_may_come_after_the_signal_itself():
    with StopSignals() as signals:
        send(signal.SIGINT)
        send(signal.SIGUSR2)
        assert signals.agreed() == (signal.SIGINT, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_signal_itself_may_come_after_what_launch_passes_on(number):
    """Handlers of signals that wait together are called in the order of their numbers."""
    with StopSignals() as signals:
        send(signal.SIGUSR2)
        send(number)
        assert signals.agreed() == (signal.SIGTERM, False)


def test_the_signal_itself_may_come_after_another_rank_has_told_of_it(monkeypatch):
    monkeypatch.setattr("d2lite.utils.comm.max_over_ranks", lambda values: [signal.SIGTERM, 0])
    with StopSignals() as signals:
        assert signals.agreed() == (signal.SIGTERM, False)
        send(signal.SIGTERM)
        assert signals.requested == signal.SIGTERM


def test_the_handlers_of_others_stay():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignals() as signals:
        send()
        assert not signals.requested
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_threads_leave_signals_alone():
    def enter():
        with StopSignals():
            seen.append(signal.getsignal(signal.SIGINT))

    seen = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that are forked")
def test_a_worker_takes_its_signals_when_it_is_ready():
    from d2lite.data.loader import _start_worker

    with signals_held():
        worker = os.fork()
        if worker == 0:
            os.kill(os.getpid(), signal.SIGTERM)  # comes too early, and waits
            _start_worker(lambda _: signal.signal(signal.SIGTERM, lambda *_: os._exit(7)), None, 0)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 7
