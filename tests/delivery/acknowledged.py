"""Sessions with a far end that acknowledges messages, for the tests of each such protocol."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.ports import LOOPBACK

from relay.delivery.destination import Destination
from relay.delivery.message_selection import EVERYTHING, MessageSelection
from relay.delivery.sessions.acknowledged_stream import AcknowledgedStream
from relay.delivery.sessions.speaker import Speaker
from relay.errors import RelayError
from relay.spool.cursor import Cursor
from relay.spool.store import Store
from relay.transport.tcp import TcpTransport


def connected(
    port: int, speaker: Speaker, stop: threading.Event, selection: MessageSelection = EVERYTHING
) -> AcknowledgedStream:
    transport = TcpTransport(LOOPBACK, port, stop)
    try:
        return AcknowledgedStream(transport, stop, speaker, selection=selection)
    except RelayError:
        transport.close()
        raise


@contextmanager
def session(port: int, speaker: Speaker, selection: MessageSelection = EVERYTHING) -> Iterator[AcknowledgedStream]:
    stream = connected(port, speaker, threading.Event(), selection)
    try:
        yield stream
    finally:
        stream.close()


@contextmanager
def delivering(store: Store, port: int, new_speaker: Callable[[], Speaker], seen: list[str]) -> Iterator[Destination]:
    """A destination that delivers; the error that it shows at each new connection is appended to `seen`."""

    def connect(stop: threading.Event) -> AcknowledgedStream:
        if destination.error is not None:
            seen.append(str(destination.error))
        return connected(port, new_speaker(), stop)

    start = store.begin("peer", Cursor(), EVERYTHING.types)
    destination = Destination("peer", store, connect, selection=EVERYTHING, start=start)
    destination.start()
    try:
        yield destination
    finally:
        destination.stop()


def gone(stream: AcknowledgedStream, cause: str) -> bool:
    """Whether a check of an idle session finds that it has ended for this cause."""
    try:
        stream.check()
    except RelayError as error:
        return cause in str(error)
    return False
