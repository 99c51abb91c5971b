"""A call that takes long holds nobody up, and one that is under way is not made again."""

import subprocess
import sys
import threading
import time

import pytest
from harness.waiting import wait_until

from relay.errors import UnavailableError
from relay.program.watch.enquiry import Enquiry

STOP = """
import threading
from relay.program.watch.enquiry import Enquiry
print(Enquiry().ask(threading.Event().wait))
"""


def test_an_answer_that_is_there_soon_is_given_at_once() -> None:
    assert Enquiry[int]().ask(lambda: 7, patience=20) == 7


def test_a_late_answer_is_given_to_a_later_question_and_the_call_is_made_once() -> None:
    free, made = threading.Event(), []

    def call() -> int:
        made.append(1)
        assert free.wait(30)
        return len(made)

    enquiry = Enquiry[int]()
    before = time.monotonic()
    assert [enquiry.ask(call, patience=0.01) for _ in range(3)] == [None] * 3
    assert time.monotonic() - before < 20, "not the 30 s of the call"
    free.set()
    wait_until(lambda: enquiry.ask(call) == 1, 10, "the answer")
    assert enquiry.ask(call, patience=20) == 2


def test_what_the_call_raises_is_raised_where_the_answer_is_taken() -> None:
    def call() -> int:
        raise UnavailableError("it", "is not there")

    enquiry = Enquiry[int]()
    with pytest.raises(UnavailableError):
        enquiry.ask(call, patience=20)
    assert enquiry.ask(lambda: 7, patience=20) == 7


def test_a_process_ends_without_the_answer() -> None:
    done = subprocess.run([sys.executable, "-c", STOP], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "None\n"
