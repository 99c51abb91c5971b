"""A call that may take long, made in a thread of its own so that its caller does not have to wait for it.

The kernel makes every process that writes to its audit wait while its backlog is full, and no timeout of the socket
shortens that. The caller waits for `TIMEOUT_S`; a later call of `ask` returns an answer that came after that. At most
one call is under way. Its thread is a daemon: relay can stop without waiting for the kernel.

A `BackgroundCall` is for one thread at a time.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Final, Generic, TypeVar

Answer = TypeVar("Answer")

TIMEOUT_S: Final = 0.25


class BackgroundCall(Generic[Answer]):
    """Makes one call after the other."""

    def __init__(self) -> None:
        self._under_way: Future[Answer] | None = None

    def ask(self, call: Callable[[], Answer], *, timeout: float = TIMEOUT_S) -> Answer | None:
        """Make the call, or wait for the one that is under way; None without an answer within `timeout` seconds.

        Raises what the call raises.
        """
        future = self._under_way
        if future is None:
            future = self._under_way = Future()

            def make() -> None:
                try:
                    future.set_result(call())
                except Exception as error:  # noqa: BLE001  raised again where the answer is returned
                    future.set_exception(error)

            threading.Thread(target=make, name="background call", daemon=True).start()
        if not wait((future,), timeout).done:
            return None
        self._under_way = None
        return future.result()
