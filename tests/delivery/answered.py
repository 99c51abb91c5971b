"""Sessions with a far end that answers, as the tests of each such protocol have them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.ports import LOOPBACK

from relay.delivery.destination import Destination
from relay.delivery.selection import EVERYTHING, MessageSelection
from relay.delivery.sessions.answered_stream import AnsweredStream
from relay.delivery.sessions.speaker import Speaker
from relay.errors import RelayError
from relay.spool.cursor import Cursor
from relay.spool.store import Store
from relay.transport.tcp import TcpTransport


def connected(
    port: int, speaker: Speaker, stop: threading.Event, wanted: MessageSelection = EVERYTHING
) -> AnsweredStream:
    transport = TcpTransport(LOOPBACK, port, stop)
    try:
        return AnsweredStream(transport, stop, speaker, wanted=wanted)
    except RelayError:
        transport.close()
        raise


@contextmanager
def session(port: int, speaker: Speaker, wanted: MessageSelection = EVERYTHING) -> Iterator[AnsweredStream]:
    stream = connected(port, speaker, threading.Event(), wanted)
    try:
        yield stream
    finally:
        stream.close()


@contextmanager
def delivering(store: Store, port: int, new_speaker: Callable[[], Speaker], seen: list[str]) -> Iterator[Destination]:
    """A destination's own loop; the errors that it shows when it connects anew go to `seen`."""

    def connect(stop: threading.Event) -> AnsweredStream:
        if destination.error is not None:
            seen.append(str(destination.error))
        return connected(port, new_speaker(), stop)

    start = store.begin("peer", Cursor(), EVERYTHING.types)
    destination = Destination("peer", store, connect, wanted=EVERYTHING, start=start)
    destination.start()
    try:
        yield destination
    finally:
        destination.stop()


def gone(stream: AnsweredStream, cause: str) -> bool:
    """Whether a look at an idle session finds that it has ended, for this cause."""
    try:
        stream.check()
    except RelayError as error:
        return cause in str(error)
    return False
