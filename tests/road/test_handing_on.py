"""A receiver hands on what it accepts: to rsyslog, to another receiver; its own archive never waits for them."""

import json
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness.openssh import Sshd
from harness.ports import LOOPBACK, free_port
from harness.receiver import Receiver, identities
from harness.records import closed, generate, serials
from harness.relay import RELAY, Router, archived, audit_events, nothing_waits
from harness.rsyslog import Rsyslog
from harness.waiting import wait_until

RECORDS = 6_000


class Hub(Receiver):
    """A receiver with servers, from a file."""

    def __init__(self, folder: Path, spool: str = "") -> None:
        self.configuration = folder / "receiver.toml"
        super().__init__(folder, "-c", str(self.configuration))
        self._spool = spool
        self.write()

    def write(self, *servers: dict[str, object], forwarding: Mapping[str, object] | None = None) -> None:
        """Hand on to these servers, by TCP on this machine."""
        tables = [
            f'[relay]\nstate-directory = "{self.folder}/state"\nhostname = "hub"\n',
            f'[receiver]\narchive = "{self.archive}"\nlisten = ["tcp://{LOOPBACK}:{self.port}"]\n',
            f"[spool]\n{self._spool}\n",
        ]
        named: list[tuple[str, Mapping[str, object]]] = [
            ("remote-logging-server", {"address": LOOPBACK, "protocol": "relp", "max-message-size": "64KiB"} | each)
            for each in servers
        ]
        named += [("port-forwarding", forwarding)] if forwarding else []
        for name, keys in named:
            lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
            tables.append("\n".join((f"[[{name}]]", *lines, "")))
        self.configuration.write_text("\n".join(tables))

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        argv = [*RELAY, "-c", str(self.configuration), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    def destinations(self) -> dict[str, dict[str, Any]]:
        """By name, from `relay status`."""
        return {each["name"]: each for each in json.loads(self.run("status", "--json").stdout)["destinations"]}

    def wait_until_nothing_waits(self) -> None:
        wait_until(lambda: nothing_waits(self.folder / "state"), 60, self.status)


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hub")


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Receiver]:
    receiver = Receiver(tmp_path / "second")
    with receiver.running():
        yield receiver


def send(port: int, *messages: bytes) -> None:
    """Send octet-counted messages; return when the receiver says that it has accepted them."""
    with socket.create_connection((LOOPBACK, port)) as stream:
        stream.sendall(b"".join(b"%d %b" % (len(each), each) for each in messages))
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(1) == b""


def foreign(host: str, text: str, priority: int = 13) -> bytes:
    return f"<{priority}>1 2026-06-21T00:00:00Z {host} program - - - {text}".encode()


def test_what_a_killed_hub_accepts_is_in_its_archive_once_and_in_every_server(
    tmp_path: Path, hub: Hub, second: Receiver, rsyslog: Rsyslog
) -> None:
    """A router, sshd, `relay receive`; behind it rsyslog through sshd, another receiver, an rsyslog that gets few."""
    with Sshd() as sshd, Rsyslog("imtcp") as siem:
        router = Router(tmp_path, sshd, hub.port)
        local_end = free_port()
        hub.write(
            {"name": "siem", "port": local_end, "protocol": "syslog"},
            {"name": "second", "port": second.port, "required": True},
            {"name": "few", "port": rsyslog.port, "originators": ["FW*"], "severity": "err"},
            forwarding=router.forwarding | {"local-port": local_end, "remote-port": siem.port},
        )
        tested = hub.run("test-connection")
        assert tested.returncode == 0, tested.stdout
        assert "siem" in tested.stdout
        assert hub.run("config", "check").returncode == 0
        router.audit_log.write_bytes(closed(generate(RECORDS)))
        expected = serials(router.audit_log.read_bytes())
        with router.start() as relay:
            with hub.running() as process:
                hub.wait_for_messages(len(expected) // 4)
                process.kill()
            with hub.running() as process:
                send(hub.port, foreign("fw1", "bad", 11), foreign("fw1", "good", 14), foreign("web", "bad", 11))
                hub.wait_for_messages(len(expected), 90)
                wait_until(lambda: nothing_waits(router.state), 60, "the last proof")
                hub.wait_until_nothing_waits()
                # A proof says that a server has it; the files of the second receiver and of rsyslog follow.
                second.wait_for_messages(len(expected))
                wait_until(lambda: foreign("web", "bad", 11) in archived(second.archive), 60, second.status)
                wait_until(lambda: foreign("fw1", "bad", 11) in rsyslog.messages(), 60, lambda: rsyslog.log)
                wait_until(lambda: set(audit_events(siem.messages())) == set(hub.messages()), 60, lambda: siem.log)
                proofs = {name: each["proof"] for name, each in hub.destinations().items()}
                assert "hands on to: siem, second, few" in process.log
            relay.stop()
        at_siem = siem.messages()
    assert proofs == {"archive": "archived", "siem": "drained", "second": "acknowledged", "few": "acknowledged"}
    own = hub.messages()
    assert len(own) == len(set(identities(own))) == len(expected)
    assert sorted(second.messages()) == sorted(own)  # octet for octet, once, with the router's identities
    assert set(audit_events(at_siem)) == set(own)
    few = [message for message in rsyslog.messages() if b" hub relay " not in message]
    assert few == [foreign("fw1", "bad", 11)]
    assert foreign("web", "bad", 11) in archived(second.archive)


@pytest.fixture
def dead() -> Iterator[Rsyslog]:
    with Rsyslog("imrelp") as collector:
        yield collector


@pytest.fixture
def rsyslog() -> Iterator[Rsyslog]:
    """It proves at once."""
    with Rsyslog("imrelp") as collector:
        yield collector


@pytest.mark.parametrize("required", [False, True])
def test_a_dead_server_never_holds_up_the_archive_unless_it_is_required(
    tmp_path: Path, rsyslog: Rsyslog, dead: Rsyslog, required: bool
) -> None:
    """The spool has room for 4 MiB, and 8 MiB are sent."""
    hub = Hub(tmp_path / "hub", 'max-size = "4MiB"\nsegment-size = "1MiB"')
    keys: dict[str, object] = {"required": True} if required else {}
    hub.write({"name": "dead", "port": dead.port} | keys, {"name": "siem", "port": rsyslog.port})
    dead.kill()
    texts = [foreign("web", f"{number:04} {'x' * 32_000}") for number in range(256)]
    accepted = 0
    with hub.running() as process:
        for number in range(0, len(texts), 16):
            with socket.create_connection((LOOPBACK, hub.port)) as stream:
                stream.settimeout(1.5 if required else 60)
                chosen = texts[number : number + 16]
                stream.sendall(b"".join(b"%d %b" % (len(each), each) for each in chosen))
                stream.shutdown(socket.SHUT_WR)
                try:
                    assert stream.recv(1) == b""
                except TimeoutError:
                    break
                accepted += len(chosen)
        assert (accepted < len(texts)) == required
        wait_until(lambda: len(web(hub)) >= accepted, 60, hub.status)
        assert sorted(set(web(hub)) & set(texts[:accepted])) == texts[:accepted]
        assert hub.destinations()["dead"]["waiting_events"] > 0
        assert "retrying for" in hub.run("status").stdout
        dead.start()
        hub.write(
            {"name": "dead", "port": dead.port, "unproven": "trust"} | keys, {"name": "siem", "port": rsyslog.port}
        )
        assert hub.run("reload").stdout == "server dead exchanged\n"  # which does not wait for the next attempt
        if required:  # the sender that was not answered sends again
            send(hub.port, *texts[accepted:])
        wait_until(lambda: texts[-1] in dead.messages(), 60, lambda: process.log)
        got = {each for each in dead.messages() if each in set(texts)}
        if not required:
            wait_until(lambda: gaps(hub), 60, hub.status)
        hub.wait_until_nothing_waits()
        hub_events = gaps(hub)
    if required:
        assert got == set(texts)
        assert hub_events == []
    else:
        assert len(got) < len(texts)
        counted = sum(int(message.rpartition(b" events")[0].rpartition(b" ")[2]) for message in hub_events)
        assert counted == len(texts) - len(got)
    assert set(web(hub)) == set(texts)


def gaps(hub: Hub) -> list[bytes]:
    return [message for message in archived(hub.archive) if b" GAP " in message]


def web(hub: Hub) -> list[bytes]:
    return [message for message in archived(hub.archive) if b" web program " in message]


def test_the_servers_of_a_running_receiver_change_without_loss(hub: Hub, second: Receiver, rsyslog: Rsyslog) -> None:
    siem: dict[str, object] = {"name": "siem", "port": rsyslog.port}
    with hub.running() as process:
        send(hub.port, *(foreign("a", f"one {number}") for number in range(100)))
        hub.write(siem)
        assert hub.run("reload").stdout == "server siem begun\n"
        send(hub.port, *(foreign("a", f"two {number}") for number in range(100)))
        late: dict[str, object] = {"name": "second", "port": second.port, "start": "now"}
        hub.write(siem | {"types": ["log"]}, late)
        assert hub.run("reload").stdout == "server siem exchanged\nserver second begun\n"
        send(hub.port, *(foreign("a", f"three {number}") for number in range(100)))
        hub.write(late)
        hub.wait_until_nothing_waits()
        assert hub.run("reload").stdout == "server siem ended\n"
        send(hub.port, foreign("a", "four"))
        wait_until(lambda: foreign("a", "four") in archived(second.archive), 60, hub.status)
        assert [line for line in process.complaints if "lost" in line] == []
    sent_to_siem = [message for message in rsyslog.messages() if b" program " in message]
    for part in ("two", "three"):
        expected = [foreign("a", f"{part} {number}") for number in range(100)]
        assert [message for message in sent_to_siem if f" {part} ".encode() in message] == expected
    assert [message for message in archived(second.archive) if b" three " in message] == expected
    assert all(b" - two " not in message for message in archived(second.archive))
    # What senders sent before a server began is not counted for it, but the receiver's own event is.
    (gap,) = gaps(hub)
    assert b'lost="' in gap
    assert b" relay " in gap.partition(b'lost="')[2]
    assert hub.run("receive", "--drain", "--timeout", "60").returncode == 0


def test_a_restart_deletes_nothing_that_a_server_still_lacks(tmp_path: Path, dead: Rsyslog) -> None:
    """The archive has everything, in several segments; its cursor is known before the server is followed."""
    hub = Hub(tmp_path / "hub", 'segment-size = "1MiB"')
    hub.write({"name": "dead", "port": dead.port})
    dead.kill()
    texts = [foreign("web", f"{number:04} {'x' * 32_000}") for number in range(128)]
    with hub.running() as process:
        for number in range(0, len(texts), 32):
            send(hub.port, *texts[number : number + 32])
        wait_until(lambda: nothing_waits(hub.folder / "state", "archive"), 60, hub.status)
        process.kill()
    dead.start()
    with hub.running():
        wait_until(lambda: set(texts) <= set(dead.messages()), 60, hub.status)
    assert gaps(hub) == []
