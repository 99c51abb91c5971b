"""Datagrams over real sockets: UDP, and Unix sockets as /dev/log is one."""

import asyncio
import contextlib
import logging
import logging.handlers
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harness.held_spool import HeldSpool
from harness.waiting import until

from relay.errors import CannotCreateError, PermissionRefusedError, RelayError, UnavailableError
from relay.events.own_events import Author
from relay.listener import datagrams
from relay.listener.datagrams import DatagramListener
from relay.listener.listeners import Listeners
from relay.listener.listening_socket import cannot_listen
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.unix_socket import binding_of_path
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.configuration.source_settings import SyslogSource
from relay.values.event import Batch, EventType
from relay.values.provenance import Provenance, ReceiptMark

AUTHOR = Author("log1", "log1", "", "128T")
LOOPBACK = "udp://127.0.0.1:0"


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario(), debug=False)


@contextlib.asynccontextmanager
async def listening(
    spool: HeldSpool, *urls: str, terms: StreamTerms | None = None, **keys: Any
) -> AsyncIterator[Listeners]:
    table = SyslogSource(name="syslog", listen=tuple(map(ListenerUrl.parse, urls)), **keys)
    listeners = Listeners(spool.submit, table, lambda: AUTHOR)
    try:
        for url in table.listen:
            await listeners.begin(url, terms or StreamTerms())
        yield listeners
    finally:
        stopping = asyncio.create_task(listeners.end_all())
        while not stopping.done():
            spool.sync()
            await asyncio.sleep(0)
        await stopping


def port_of(listeners: Listeners) -> int:
    (listener,) = listeners.at_work.values()
    return listener.address.port


def sender(port: int, *datagrams_: bytes, host: str = "127.0.0.1") -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        for datagram in datagrams_:
            sock.sendto(datagram, (host, port))


class TestUdp:
    def test_datagrams_become_messages_with_the_peer_and_cannot_be_repeated(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool, LOOPBACK) as listeners:
                sender(port_of(listeners), b"<13>one\n", b"", b"\n", b"two\0", b"7 <13>abc")
                await until(lambda: len(spool.messages) == 3)
                assert spool.messages == [b"<13>one", b"two", b"<13>abc"]
                assert {event.type for event in spool.events} == {EventType.LOG}
                for batch in spool.batches:
                    assert not batch.repeatable
                    assert batch.provenance == Provenance("127.0.0.1", "", "udp://127.0.0.1:0", "syslog")
                await until(lambda: listeners.by_url()["udp://127.0.0.1:0"]["empty"] == 2)
                assert listeners.totals()["messages"] == 3

        run(scenario)

    def test_each_peer_of_a_wake_up_has_one_batch_and_its_order(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool, "udp://[::]:0") as listeners:
                with contextlib.ExitStack() as stack:
                    socks = []
                    for address in ("::1", "::1"):
                        sock = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
                        sock.bind((address, 0))
                        socks.append(sock)
                    for number in range(100):
                        socks[number % 2].sendto(b"<13>%d" % number, ("::1", port_of(listeners)))
                    await until(lambda: len(spool.messages) == 100)
                assert spool.messages == [b"<13>%d" % number for number in range(100)]
                assert len(spool.batches) == 1  # the two sockets have one address
                assert spool.batches[0].provenance is not None
                assert spool.batches[0].provenance.peer == "::1"

        run(scenario)

    def test_a_datagram_above_the_limit_is_cut_marked_and_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool, LOOPBACK, terms=StreamTerms(max_message_size=1000)) as listeners:
                sender(port_of(listeners), b"<13>" + b"x" * 996, *[b"<13>" + b"x" * 997 + b"\n"] * 5)
                await until(lambda: len(spool.messages) == 6)
                assert {len(message) for message in spool.messages} == {1000}
                assert [event.marks for event in spool.events] == [0, *[ReceiptMark.CUT] * 5]
                assert listeners.totals()["cut"] == 5
                sender(port_of(listeners), b"<13>" + b"y" * 60_000)
                await until(lambda: len(spool.messages) == 7)

        run(scenario)
        texts = [record.getMessage() for record in caplog.records if "cut to" in record.getMessage()]
        assert texts == [
            "udp://127.0.0.1:0: 1 message cut to 1000B (max-message-size)",
            "udp://127.0.0.1:0: 5 messages cut to 1000B (max-message-size)",
        ]

    def test_what_the_kernel_drops_is_counted_logged_and_reported_as_a_gap(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(datagrams, "LOOK_SECONDS", 0.02)

        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool, LOOPBACK, receive_buffer=64 * 1024) as listeners:
                sent = 2000
                sender(port_of(listeners), *[b"<13>" + b"x" * 500] * sent)  # the loop reads nothing meanwhile
                await until(lambda: any(event.type is EventType.RELAY for event in spool.events))
                await until(lambda: listeners.totals()["messages"] + listeners.totals()["dropped"] == sent)
                gaps = [event for event in spool.events if event.type is EventType.RELAY]
                dropped = listeners.totals()["dropped"]
                assert dropped > 1000
                assert b" GAP [" in gaps[0].head
                assert b'events="%d"' % dropped in gaps[0].tail
                assert b'source="udp://127.0.0.1:0"' in gaps[0].tail

        run(scenario)
        (line,) = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
        assert "raise receive-buffer" in line

    def test_senders_by_tcp_get_their_turn_during_a_flood(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            flooding = True

            async def flood(port: int) -> None:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    while flooding:
                        for _ in range(2000):
                            sock.sendto(b"<13>flood", ("127.0.0.1", port))
                        spool.sync()
                        await asyncio.sleep(0)

            async with listening(spool, LOOPBACK, "tcp://127.0.0.1:0") as listeners:
                udp, tcp = listeners.at_work.values()
                task = asyncio.create_task(flood(udp.address.port))
                try:
                    _, writer = await asyncio.open_connection(*tcp.address)
                    writer.write(b"<13>by tcp\n")
                    await until(lambda: b"<13>by tcp" in spool.messages)
                    writer.close()
                finally:
                    flooding = False
                    await task

        run(scenario)

    def test_memory_has_a_ceiling_while_nothing_becomes_durable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(datagrams, "UNDURABLE", 100_000)

        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool, LOOPBACK) as listeners:
                (listener,) = listeners.at_work.values()
                assert isinstance(listener, DatagramListener)
                for _ in range(30):
                    sender(port_of(listeners), *[b"<13>" + b"x" * 500] * 100)
                    await asyncio.sleep(0)
                await until(lambda: listener._undurable > 100_000)
                held = len(spool.messages)
                await asyncio.sleep(0)
                assert len(spool.messages) == held < 1000
                while len(spool.messages) < 3000:
                    spool.sync()
                    await asyncio.sleep(0)
                assert listeners.totals()["dropped"] == 0

        run(scenario)

    def test_a_stop_stores_what_the_kernel_still_holds(self) -> None:
        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool, LOOPBACK) as listeners:
                sender(port_of(listeners), *[b"<13>%d" % number for number in range(1500)])
            assert spool.messages == [b"<13>%d" % number for number in range(1500)]
            assert not spool.held

        run(scenario)

    def test_a_stop_ends_although_the_spool_does_not_answer(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(datagrams, "STOP_SECONDS", 0.05)

        async def scenario() -> None:
            async def never(batch: Batch) -> "asyncio.Future[None]":
                del batch
                await asyncio.Event().wait()
                raise AssertionError

            table = SyslogSource(name="syslog", listen=(ListenerUrl.parse(LOOPBACK),))
            listeners = Listeners(never, table, lambda: AUTHOR)
            await listeners.begin(table.listen[0], StreamTerms())
            sender(port_of(listeners), b"<13>one")
            await until(lambda: listeners.totals()["messages"] == 1)
            await listeners.end_all()

        run(scenario)
        assert "the spool does not answer" in caplog.text

    def test_a_bug_is_one_line_and_the_listener_continues(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(datagrams, "LOOK_SECONDS", 0.01)

        async def scenario() -> None:
            spool, bugs = HeldSpool(), [ZeroDivisionError("one")]

            async def submit(batch: Batch) -> "asyncio.Future[None]":
                if bugs:
                    raise bugs.pop()
                return await spool.submit(batch)

            table = SyslogSource(name="syslog", listen=(ListenerUrl.parse(LOOPBACK),))
            listeners = Listeners(submit, table, lambda: AUTHOR)
            await listeners.begin(table.listen[0], StreamTerms())
            sender(port_of(listeners), b"<13>one")
            await until(lambda: not bugs)
            sender(port_of(listeners), b"<13>two")
            await until(lambda: spool.messages == [b"<13>two"])
            spool.sync()
            await listeners.end_all()

        run(scenario)
        assert re.search(
            r"udp://127\.0\.0\.1:0: a bug at relay/listener/datagrams\.py:\d+: ZeroDivisionError: one; the listener",
            caplog.text,
        )
        assert "Traceback" not in caplog.text

    def test_the_receive_buffer_is_what_is_configured_and_a_smaller_one_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scenario() -> None:
            async with listening(HeldSpool(), LOOPBACK, receive_buffer=1024**2) as listeners:
                (listener,) = listeners.at_work.values()
                assert listener._sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 2 * 1024**2
                assert not caplog.records
                larger = SyslogSource(name="s", receive_buffer=2 * 1024**2)
                listeners.exchange(larger, lambda _: StreamTerms())
                assert listener._sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 4 * 1024**2
                assert isinstance(listener, DatagramListener)
                with _Stingy(socket.AF_INET, socket.SOCK_DGRAM) as stingy:
                    former, listener._sockets = listener._sockets, [stingy]
                    listener.resize(1024**3)
                    listener._sockets = former

        run(scenario)
        (line,) = [text for record in caplog.records if "receive buffer" in (text := record.getMessage())]
        assert line.endswith("allow it with `sysctl -w net.core.rmem_max=1073741824`, or grant CAP_NET_ADMIN")

    def test_an_address_in_use_is_named(self) -> None:
        async def scenario() -> None:
            async with listening(HeldSpool(), LOOPBACK) as listeners:
                with pytest.raises(UnavailableError, match="already in use") as caught:
                    await listeners.begin(ListenerUrl.parse(f"udp://127.0.0.1:{port_of(listeners)}"), StreamTerms())
                assert "ss -lntup" in caught.value.remedy

        run(scenario)


class _Stingy(socket.socket):
    """A socket for which the kernel allows no larger buffer."""

    def setsockopt(self, *arguments: Any) -> None:
        if arguments[1] == 33:
            raise PermissionError
        super().setsockopt(*arguments)


class TestUnixSockets:
    def test_syslog_of_local_programs_arrives_by_both_kinds(self, tmp_path: Path) -> None:
        """logger(1), Python's SysLogHandler with and without its NUL, and the C library's syslog(3)."""
        stream, datagram = tmp_path / "stream", tmp_path / "datagram"
        sends = "import syslog; syslog.openlog('tool'); syslog.syslog('from the C library')"

        async def scenario() -> None:
            spool = HeldSpool()
            async with listening(spool, f"unix://{stream}", f"unix-datagram://{datagram}") as listeners:
                for path, kind in ((stream, socket.SOCK_STREAM), (datagram, socket.SOCK_DGRAM)):
                    await asyncio.to_thread(_log_by_handler, path, kind)
                    await _logger(path)
                    await asyncio.to_thread(_syslog3, path, sends)
                await until(lambda: len(spool.messages) >= 8)
                ends = sorted(message.rpartition(b" ")[2] for message in spool.messages)
                assert ends == [*[b"<12>handler"] * 4, *[b"library"] * 2, *[b"logger"] * 2]
                peers = {batch.provenance.peer for batch in spool.batches if batch.provenance}
                assert peers == {socket.gethostname()}
                assert listeners.totals()["messages"] == 8

        run(scenario)

    def test_a_socket_has_its_mode_and_is_removed_at_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "log"

        async def scenario() -> None:
            async with listening(HeldSpool(), f"unix-datagram://{path}", socket_mode="0620") as listeners:
                assert stat.filemode(path.stat().st_mode) == "srw--w----"
                listeners.exchange(SyslogSource(name="s", socket_mode="0600"), lambda _: StreamTerms())
                assert stat.filemode(path.stat().st_mode) == "srw-------"
            assert not path.exists()

        run(scenario)

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    @pytest.mark.parametrize("scheme", ["unix", "unix-datagram"])
    def test_an_old_socket_is_replaced_and_one_that_is_served_stays(
        self, tmp_path: Path, scheme: str, kind: socket.SocketKind
    ) -> None:
        path = tmp_path / "log"

        async def scenario() -> None:
            with socket.socket(socket.AF_UNIX, kind) as other:
                other.bind(str(path))
                if kind is socket.SOCK_STREAM:
                    other.listen()
                with pytest.raises(CannotCreateError, match="another program listens on this socket"):
                    async with listening(HeldSpool(), f"{scheme}://{path}"):
                        pass
                assert path.is_socket()
            async with listening(HeldSpool(), f"{scheme}://{path}") as listeners:
                assert listeners.at_work

        run(scenario)

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_of_several_that_start_at_once_on_an_old_socket_one_listens(
        self, tmp_path: Path, kind: socket.SocketKind
    ) -> None:
        def begin(path: Path, together: threading.Barrier) -> socket.socket | None:
            together.wait()
            with contextlib.suppress(CannotCreateError):
                (sock,) = binding_of_path(str(path), kind, 0o600)()
                return sock
            return None

        with ThreadPoolExecutor(8) as threads:
            for number in range(40):
                path, together = tmp_path / str(number), threading.Barrier(8)
                with socket.socket(socket.AF_UNIX, kind) as old:
                    old.bind(str(path))
                found = [sock for sock in threads.map(begin, [path] * 8, [together] * 8) if sock is not None]
                assert len(found) == 1
                with socket.socket(socket.AF_UNIX, kind) as sender:
                    sender.connect(str(path))  # the winner's
                found[0].close()

    def test_other_files_are_never_removed(self, tmp_path: Path) -> None:
        file, link, lost = tmp_path / "file", tmp_path / "link", tmp_path / "none" / "s"
        file.write_text("precious")
        link.symlink_to(file)

        async def scenario() -> None:
            for path, cause in ((file, "is not a socket"), (link, "is a link to"), (lost, "its folder does not exist")):
                with pytest.raises(CannotCreateError, match=cause):
                    async with listening(HeldSpool(), f"unix-datagram://{path}"):
                        pass
            socket_ = tmp_path / "socket"
            async with listening(HeldSpool(), f"unix://{socket_}"):
                socket_.unlink()
                socket_.write_text("somebody else's")
            assert socket_.read_text() == "somebody else's"

        run(scenario)
        assert file.read_text() == "precious"

    def test_a_folder_without_permission_is_named(self) -> None:
        refusal = cannot_listen("unix:///run/x", PermissionError(13, "Permission denied"))
        assert isinstance(refusal, PermissionRefusedError)
        assert "port" not in str(refusal)
        assert isinstance(refusal, RelayError)


def _log_by_handler(path: Path, kind: socket.SocketKind) -> None:
    for append_nul in (True, False):
        handler = logging.handlers.SysLogHandler(str(path), socktype=kind)
        handler.append_nul = append_nul
        handler.emit(logging.makeLogRecord({"msg": "handler" if append_nul else "handler\n", "levelno": 20}))
        handler.close()


async def _logger(path: Path) -> None:
    logger = shutil.which("logger")
    assert logger is not None, "logger(1) of util-linux"
    process = await asyncio.create_subprocess_exec(logger, "-u", str(path), "-t", "tool", "from logger")
    assert await process.wait() == 0


def _syslog3(path: Path, sends: str) -> None:
    """syslog(3) connects to /dev/log alone, so a mount namespace has this socket there."""
    script = f'mount -t tmpfs none /dev && ln -s {path} /dev/log && exec {sys.executable} -c "{sends}"'
    subprocess.run(["unshare", "--mount", "sh", "-ec", script], check=True, timeout=30, env=os.environ)
