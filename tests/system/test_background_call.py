"""A call in the background delays its caller by its timeout at most, and one that is under way is not made again."""

import subprocess
import sys
import threading
import time

import pytest
from harness.waiting import wait_until

from relay.errors import UnavailableError
from relay.system.background.background_call import BackgroundCall

STOP = """
import threading
from relay.system.background.background_call import BackgroundCall
print(BackgroundCall().ask(threading.Event().wait))
"""


def test_an_answer_within_the_timeout_is_returned() -> None:
    assert BackgroundCall[int]().ask(lambda: 7, timeout=20) == 7


def test_a_late_answer_is_returned_by_a_later_call_and_the_call_is_made_once() -> None:
    free, made = threading.Event(), []

    def call() -> int:
        made.append(1)
        assert free.wait(30)
        return len(made)

    call_in_background = BackgroundCall[int]()
    before = time.monotonic()
    assert [call_in_background.ask(call, timeout=0.01) for _ in range(3)] == [None] * 3
    assert time.monotonic() - before < 20, "not the 30 s of the call"
    free.set()
    wait_until(lambda: call_in_background.ask(call) == 1, 60, "the answer")
    assert call_in_background.ask(call, timeout=20) == 2


def test_an_error_of_the_call_is_raised_where_the_answer_is_read() -> None:
    def call() -> int:
        raise UnavailableError("it", "is not there")

    call_in_background = BackgroundCall[int]()
    with pytest.raises(UnavailableError):
        call_in_background.ask(call, timeout=20)
    assert call_in_background.ask(lambda: 7, timeout=20) == 7


def test_a_process_can_end_without_the_answer() -> None:
    done = subprocess.run([sys.executable, "-c", STOP], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "None\n"
