"""The TCP listener over real sockets, with a spool whose fsync the test controls."""

import asyncio
import contextlib
import errno
import logging
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from harness.held_spool import DEADLINE, HeldSpool
from harness.leaping_loop import leap, run_leaping
from harness.waiting import until

from relay.errors import PermissionRefusedError, RelayError, UnavailableError, UnknownHostError
from relay.listener.admission.admission import Admission, ConnectionLimits
from relay.listener.listening_socket import cannot_listen
from relay.listener.reception.listener_counters import ListenerCounters
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.tcp import StreamListener, TcpListener
from relay.syslog.framing import octet_counted
from relay.values.event import Batch, EventType

SLOW_ENOUGH = 0.2  # seconds in which something must not happen


class Sender:
    """The far end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def half_close(self) -> None:
        self.writer.write_eof()

    async def ending(self) -> str:
        """Wait for the listener's end of the stream: "closed" cleanly or "reset"."""
        async with asyncio.timeout(DEADLINE):
            try:
                return "closed" if await self.reader.read() == b"" else "answered"
            except ConnectionResetError:
                return "reset"

    async def still_open(self, seconds: float = SLOW_ENOUGH) -> bool:
        """Check that the listener does nothing for that long."""
        try:
            async with asyncio.timeout(seconds):
                await self.reader.read()
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def connected(listener: StreamListener) -> AsyncIterator[Sender]:
    reader, writer = await asyncio.open_connection(*listener.address)
    try:
        yield Sender(reader, writer)
    finally:
        writer.transport.abort()


def listening(
    spool: HeldSpool, terms: StreamTerms | None = None, limits: ConnectionLimits | None = None
) -> TcpListener:
    return TcpListener("127.0.0.1", 0, spool.submit, terms=terms, admission=Admission(limits, monotonic=lambda: 0.0))


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario(), debug=False)


class TestAcceptance:
    def test_the_close_comes_only_after_the_sync(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one") + b"<2>two\n")
                sender.half_close()
                await until(lambda: spool.messages == [b"<1>one", b"<2>two"])
                assert await sender.still_open()
                spool.sync()
                assert await sender.ending() == "closed"
                assert listener.counters == ListenerCounters(connections=1, messages=2, octets=15, open=0)

        run(scenario)

    def test_a_stream_with_durable_messages_is_not_closed_before_the_half_close(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one"))
                await until(lambda: spool.messages)
                spool.sync()
                assert await sender.still_open()
                assert listener.counters.open == 1
                sender.half_close()
                assert await sender.ending() == "closed"

        run(scenario)

    def test_a_half_close_without_a_message_is_closed_at_once(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                sender.half_close()
                assert await sender.ending() == "closed"

        run(scenario)

    def test_a_spool_that_fails_resets_the_sender(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one"))
                sender.half_close()
                await until(lambda: spool.held)
                spool.fail()
                assert await sender.ending() == "reset"
                assert listener.counters.storage_errors == 1

        run(scenario)
        assert "spool: input/output error; replace the disk" in caplog.text

    def test_a_failed_batch_counts_even_if_later_ones_succeed(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one"))
                await until(lambda: spool.held)
                spool.fail()
                sender.send(octet_counted(b"<1>two"))
                await until(lambda: len(spool.batches) == 2)
                spool.sync()
                sender.half_close()
                assert await sender.ending() == "reset"

        run(scenario)

    def test_a_stop_resets_a_sender_without_acceptance_and_leaves_the_batch_to_the_spool(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as waiting, connected(listener) as idle:
                waiting.send(octet_counted(b"<1>one"))
                waiting.half_close()
                await until(lambda: spool.held and listener.counters.open == 2)
                await listener.stop()
                assert await waiting.ending() == "reset"
                assert await idle.ending() == "reset"
                assert not spool.held[0].cancelled()
                spool.sync()

        run(scenario)

    def test_a_stop_resets_a_connection_that_was_accepted_a_moment_ago(self) -> None:
        async def scenario() -> None:
            async with listening(HeldSpool()) as listener:
                with socket.socket() as sender:
                    sender.connect(listener.address)  # the kernel answers; our loop has seen nothing yet
                    while not listener._receptions:  # noqa: ASYNC110 -- before the reception's first step
                        await asyncio.sleep(0)
                    assert listener.counters.connections == 0
                    await listener.stop()
                    assert listener._admission.connections == 0
                    sender.settimeout(DEADLINE)
                    with pytest.raises(ConnectionResetError):
                        sender.recv(1)

        run(scenario)

    def test_a_stopped_listener_is_not_reachable(self) -> None:
        async def scenario() -> None:
            listener = listening(HeldSpool())
            await listener.start()
            address = listener.address
            await listener.stop()
            await listener.stop()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)

        run(scenario)


class TestStreams:
    def test_events_have_the_type_log_and_the_current_time(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one"))
                await until(lambda: spool.batches)
                (event,) = spool.batches[0].events
                assert (event.type, event.head, event.tail) == (EventType.LOG, b"<1>one", b"")
                assert event.time > 1_700_000_000_000_000
                assert spool.batches[0].position is None

        run(scenario)

    def test_a_sender_may_write_octet_by_octet(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                for octet in octet_counted(b"<1>one") + b"<2>two\n" + octet_counted(b"<3>three"):
                    sender.send(bytes([octet]))
                    await asyncio.sleep(0)
                    spool.sync()
                sender.half_close()

                def all_came() -> bool:
                    spool.sync()  # the network may have kept all three back so far, and only two are taken in before
                    return len(spool.messages) == 3

                await until(all_came)
                spool.sync()
                assert await sender.ending() == "closed"
                assert spool.messages == [b"<1>one", b"<2>two", b"<3>three"]

        run(scenario)

    def test_large_frames_arrive_completely_and_in_order(self) -> None:
        frames = [b"<1>%03d" % number + 64 * 1024 * b"x" for number in range(200)]

        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                sender.send(b"".join(map(octet_counted, frames)))
                sender.half_close()
                while len(spool.messages) < len(frames):
                    await until(lambda: spool.held)
                    spool.sync()
                spool.sync()
                assert await sender.ending() == "closed"
                assert spool.messages == frames

        run(scenario)

    def test_at_most_two_batches_wait_for_the_sync_and_then_the_sender_waits(self) -> None:
        frame = octet_counted(b"<1>" + 1000 * b"x")

        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                sender.writer.transport.set_write_buffer_limits(high=0)
                for _ in range(20_000):  # 20 MB: far more than all socket buffers hold
                    sender.send(frame)
                await until(lambda: len(spool.held) == 2)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(SLOW_ENOUGH):
                        await sender.writer.drain()
                assert len(spool.held) == 2
                assert listener.counters.octets < 2_000_000
                (reception,) = listener._receptions
                assert not reception.done()

        run(scenario)

    def test_a_full_spool_makes_the_sender_wait(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool(ceiling=1)
            async with listening(spool) as listener, connected(listener) as first, connected(listener) as second:
                first.send(octet_counted(b"<1>one"))
                await until(lambda: spool.messages)
                second.send(octet_counted(b"<1>two"))
                second.half_close()
                assert await second.still_open()
                assert spool.messages == [b"<1>one"]
                spool.sync()
                await until(lambda: len(spool.messages) == 2)
                spool.sync()
                assert await second.ending() == "closed"

        run(scenario)


class TestFaults:
    def test_messages_before_a_bad_frame_become_durable_before_the_reset(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one") + b"1234567890 <1>two")
                await until(lambda: spool.messages == [b"<1>one"])
                assert await sender.still_open()
                spool.sync()
                assert await sender.ending() == "reset"
                assert listener.counters.framing_errors == 1

        run(scenario)

    def test_a_half_close_inside_a_frame_is_reset_and_counted(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one") + b"100 <1>two")
                sender.half_close()
                await until(lambda: spool.held)
                spool.sync()
                assert await sender.ending() == "reset"
                assert listener.counters.truncated == 1
                assert spool.messages == [b"<1>one"]

        run(scenario)

    def test_a_sender_that_breaks_off_is_counted_and_its_complete_messages_are_kept(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one") + b"100 <1>two")
                await until(lambda: spool.held)
                abort(sender)
                spool.sync()
                await until(lambda: listener.counters.lost == 1)
                assert listener.counters.open == 0
                assert spool.messages == [b"<1>one"]

        run(scenario)

    def test_an_idle_sender_is_closed_once_all_is_durable(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool, StreamTerms(idle_timeout=60)) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one"))
                await until(lambda: spool.messages)
                assert listener.counters.idle == 0
                await leap(61)
                assert listener.counters.idle == 1
                assert await sender.still_open()
                spool.sync()
                assert await sender.ending() == "closed"

        run_leaping(scenario)

    def test_a_message_that_arrives_just_when_its_sender_counts_as_idle_is_received(self) -> None:
        """Otherwise the close of the stream would say that the message is accepted."""

        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool, StreamTerms(idle_timeout=60)) as listener:
                with socket.create_connection(listener.address) as sender:
                    await until(lambda: listener.counters.open == 1)
                    sender.sendall(octet_counted(b"<1>one"))  # both are there when the loop looks next
                    await leap(61)
                    assert (spool.messages, listener.counters.idle) == ([b"<1>one"], 0)

        run_leaping(scenario)

    def test_a_frame_that_drips_in_too_slowly_is_reset(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            terms = StreamTerms(frame_timeout=0.2)
            async with listening(spool, terms) as listener, connected(listener) as sender:
                sender.send(b"1000 ")
                async with asyncio.timeout(DEADLINE):
                    while not listener.counters.slow:
                        sender.send(b"x")
                        await asyncio.sleep(0.01)
                assert await sender.ending() == "reset"

        run(scenario)

    def test_each_frame_has_the_whole_time(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            terms = StreamTerms(frame_timeout=60)
            async with listening(spool, terms) as listener, connected(listener) as sender:
                for frames in range(4):
                    sender.send(b"6 <1>")
                    await until(lambda: listener.counters.octets == 8 * frames + 5)  # noqa: B023  it is awaited at once
                    await leap(40)
                    sender.send(b"one")
                    await until(lambda: spool.held)
                    spool.sync()
                assert listener.counters.slow == 0

        run_leaping(scenario)

    def test_silence_before_a_frame_does_not_count_against_it(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            terms = StreamTerms(frame_timeout=60, silent_timeout=600)
            async with listening(spool, terms) as listener, connected(listener) as sender:
                await until(lambda: listener.counters.open == 1)
                await leap(100)  # silent for longer than a frame may take
                sender.send(b"6 <1>")
                await until(lambda: listener.counters.octets == 5)
                await leap(40)
                sender.send(b"one")
                await until(lambda: spool.messages == [b"<1>one"])
                assert listener.counters.slow == 0

        run_leaping(scenario)

    def test_time_that_the_spool_takes_does_not_count_against_a_frame(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool(ceiling=0)
            terms = StreamTerms(frame_timeout=60)
            async with listening(spool, terms) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one") + b"6 <1>")
                await until(lambda: listener.counters.octets)
                await leap(100)  # while submit waits
                assert await sender.still_open()
                spool.ceiling = 2
                sender.send(b"two")
                spool.sync()
                await until(lambda: spool.messages == [b"<1>one", b"<1>two"])

        run_leaping(scenario)

    def test_a_bug_in_the_spool_resets_the_sender_and_is_reported(self, caplog: pytest.LogCaptureFixture) -> None:
        async def broken(batch: Batch) -> "asyncio.Future[None]":
            raise ZeroDivisionError(len(batch.events))

        async def scenario() -> None:
            async with TcpListener("127.0.0.1", 0, broken) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one"))
                assert await sender.ending() == "reset"
                await until(lambda: ": ZeroDivisionError: 1; please report" in caplog.text)

        run(scenario)


def abort(sender: Sender) -> None:
    """Reset the connection from the sender's side."""
    linger = b"\x01\0\0\0\0\0\0\0"
    sender.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    sender.writer.transport.abort()


class TestCeilings:
    @pytest.mark.parametrize("limits", [ConnectionLimits(3), ConnectionLimits(per_address=3, exempt=())])
    def test_one_connection_too_many_is_reset_and_later_ones_succeed(self, limits: ConnectionLimits) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with (
                listening(spool, limits=limits) as listener,
                connected(listener) as first,
                connected(listener),
                connected(listener),
            ):
                await until(lambda: listener.counters.open == 3)
                with socket.socket() as fourth:
                    fourth.connect(listener.address)
                    await until(lambda: listener.counters.refused == 1)
                    with pytest.raises(ConnectionResetError):
                        fourth.recv(1)
                first.half_close()
                assert await first.ending() == "closed"
                async with connected(listener) as fifth:
                    fifth.send(octet_counted(b"<1>one"))
                    await until(lambda: spool.messages)

        run(scenario)

    def test_many_connections_are_served_and_the_rest_refused(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool, limits=ConnectionLimits(100)) as listener, AsyncExitStack() as stack:
                opened = []
                for _ in range(150):
                    with contextlib.suppress(ConnectionResetError):  # at the connect already
                        opened.append(await stack.enter_async_context(connected(listener)))
                await until(lambda: listener.counters.connections == 100 and listener.counters.refused == 50)
                for sender in opened:
                    sender.send(octet_counted(b"<1>one"))
                await until(lambda: len(spool.messages) == 100)
                for sender in opened:
                    if not sender.writer.is_closing():
                        sender.half_close()
                spool.sync()
                endings = await asyncio.gather(*(sender.ending() for sender in opened))
                assert (endings.count("closed"), len(opened) - endings.count("reset")) == (100, 100)

        run(scenario)


class TestStarting:
    def test_the_real_port_is_reported(self) -> None:
        async def scenario() -> None:
            async with listening(HeldSpool()) as listener:
                host, port = listener.address
                assert host == "127.0.0.1"
                assert port > 0
                assert "listening" in repr(listener)

        run(scenario)

    def test_it_listens_on_ipv6(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with TcpListener("::1", 0, spool.submit) as listener, connected(listener) as sender:
                sender.send(octet_counted(b"<1>one"))
                await until(lambda: spool.messages)

        run(scenario)

    def test_an_address_in_use_is_named_with_cause_and_remedy(self) -> None:
        async def scenario() -> None:
            async with listening(HeldSpool()) as listener:
                host, port = listener.address
                with pytest.raises(UnavailableError, match="already in use") as caught:
                    await TcpListener(host, port, HeldSpool().submit).start()
                assert caught.value.what == f"tcp://127.0.0.1:{port}"
                assert "ss -lntup" in caught.value.remedy

        run(scenario)

    @pytest.mark.parametrize(
        ("host", "kind", "cause"),
        [
            ("192.0.2.1", UnavailableError, "no interface"),  # TEST-NET-1: nobody's
            ("no such host", UnknownHostError, "does not resolve"),  # with blanks: no name server is asked
        ],
    )
    def test_an_address_of_another_machine_is_named(self, host: str, kind: type[RelayError], cause: str) -> None:
        async def scenario() -> None:
            with pytest.raises(kind, match=cause):
                await TcpListener(host, 0, HeldSpool().submit).start()

        run(scenario)

    def test_a_port_that_needs_a_privilege_is_named(self) -> None:
        """Only the mapping of the error: the kernel allows root any port, and the tests may run as root."""
        refusal = cannot_listen("tcp://127.0.0.1:601", PermissionError(errno.EACCES, "Permission denied"))
        assert isinstance(refusal, PermissionRefusedError)
        assert "CAP_NET_BIND_SERVICE" in refusal.remedy


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "relay")


def test_messages_of_one_octet_from_many_senders_do_not_fill_the_memory() -> None:
    """Each would take some hundred octets while the spool has no room for it."""

    async def scenario() -> None:
        spool = HeldSpool(ceiling=1)
        async with AsyncExitStack() as stack:
            listener = await stack.enter_async_context(listening(spool))
            senders = [await stack.enter_async_context(connected(listener)) for _ in range(10)]
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
            for sender in senders:
                sender.send(b"x\n" * 20_000)
            await until(lambda: listener.counters.octets == len(senders) * 40_000)
            held, _ = tracemalloc.get_traced_memory()
            assert held < 10_000_000

    run(scenario)
