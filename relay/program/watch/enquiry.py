"""A call that may take long, made where it holds up nobody: in a thread of its own.

The kernel makes whoever speaks to its audit wait while its backlog is full, and no time limit of the socket's shortens
that. Whoever asks here waits for `SOON_S`; what is answered later is there with a later `ask`. Of one enquiry at most
one call is under way. Its thread ends with the process: a stop of relay does not wait for the kernel.

An enquiry is for one thread at a time.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Final, Generic, TypeVar

Answer = TypeVar("Answer")

SOON_S: Final = 0.25


class Enquiry(Generic[Answer]):
    """Makes one call after the other."""

    def __init__(self) -> None:
        self._under_way: Future[Answer] | None = None

    def ask(self, call: Callable[[], Answer], *, patience: float = SOON_S) -> Answer | None:
        """Make the call, or go on with the one that is under way; None: it is not answered yet. Raises what it does."""
        if self._under_way is None:
            self._under_way = Future()
            threading.Thread(target=_make, args=(call, self._under_way), name="enquiry", daemon=True).start()
        future = self._under_way
        if not wait((future,), patience).done:
            return None
        self._under_way = None
        return future.result()


def _make(call: Callable[[], Answer], future: "Future[Answer]") -> None:
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is raised where the answer is taken
        future.set_exception(error)
