"""Keys, certificates and names that cannot be used stop one server, port-forwarding or listener, and nothing else.

Everything else goes on, an alarm names the remedy, and the repair is noticed without a restart.
"""

import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness.certificates import SERVER, Authority, Shown
from harness.openssh import Sshd, generate_key
from harness.ports import free_port, listens
from harness.receiver import Receiver
from harness.relay import PROGRAM, SEED, Router, look
from harness.rsyslog import Rsyslog
from harness.waiting import wait_until

from relay.program.status.control_socket import ask
from relay.syslog.framing import octet_counted

EVENTS = 26  # in SEED
NOWHERE = "no-such-host.invalid:7777"
Sabotage = Callable[[Path], object]


class Fault(NamedTuple):
    """What is wrong with the files in a server's folder (`key`, `known_hosts`, `ca`), and what the alarm names."""

    spoil: Sabotage
    remedy: str
    step: str = "private key"
    """Which step of test-connection fails."""


def _replace_by_text(file: Path) -> None:
    file.write_text("nothing of use\n")


def _make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _lock(file: Path) -> None:
    file.unlink()
    generate_key(file, passphrase="secret")


FAULTS = {
    "missing-key": Fault(lambda folder: (folder / "key").unlink(), f"create one: `{PROGRAM} key generate "),
    "open-key": Fault(lambda folder: (folder / "key").chmod(0o644), "`chmod 600 "),
    "no-key": Fault(lambda folder: _replace_by_text(folder / "key"), "name the private half of a key pair"),
    "locked-key": Fault(lambda folder: _lock(folder / "key"), "remove the passphrase"),
    "unknown-server": Fault(lambda folder: (folder / "known_hosts").unlink(), "relay key trust", "host key"),
    "bad-known-hosts": Fault(lambda folder: _make_folder(folder / "known_hosts"), "let relay's user read", "host key"),
    "missing-ca": Fault(lambda folder: (folder / "ca").unlink(), "put it there"),
    "no-ca": Fault(lambda folder: _replace_by_text(folder / "ca"), "contains no readable certificate"),
}


class Machine:
    """A router with a good server, one server for each fault, and a port-forwarding for other programs alone."""

    def __init__(self, folder: Path, sshd: Sshd, plain: Rsyslog, by_tls: Rsyslog, ca: Path) -> None:
        self.router = Router(folder, sshd, plain.port, protocol="relp")
        self.router.audit_log.write_bytes(SEED.read_bytes())
        self.lent = free_port()
        self._files = {"key": sshd.client_key, "known_hosts": sshd.known_hosts, "ca": ca}
        tables = [self.router.configuration.read_text()]
        for name in FAULTS:
            self.repair(name)
            port = free_port()
            server: dict[str, object] = {"name": name, "port": port, "protocol": "relp"}
            if name.endswith("-ca"):
                secure = {"transport": "tls", "ca": str(folder / name / "ca"), "server-name": SERVER}
                server |= {"protocol": "syslog", **secure}
            far = by_tls if name.endswith("-ca") else plain
            tables += [self._forwarding(name, port, far.port), _table("remote-logging-server", server)]
        tables += [self._forwarding("missing-key", self.lent, plain.port)]
        tables += [_table("remote-logging-server", {"address": "no-such-host.invalid", "protocol": "relp"})]
        self.router.configuration.write_text("".join(tables))

    def _forwarding(self, name: str, local_port: int, remote_port: int) -> str:
        folder = self.router.folder / name
        files = {"private-key": str(folder / "key"), "known-hosts": str(folder / "known_hosts")}
        return _table(
            "port-forwarding", self.router.forwarding | files | {"local-port": local_port, "remote-port": remote_port}
        )

    def spoil(self, name: str) -> None:
        FAULTS[name].spoil(self.router.folder / name)

    def repair(self, name: str) -> None:
        """Repair the files."""
        folder = self.router.folder / name
        folder.mkdir(exist_ok=True)
        for file, good in self._files.items():
            with contextlib.suppress(IsADirectoryError, PermissionError, FileNotFoundError):
                (folder / file).unlink()
            if (folder / file).is_dir():
                (folder / file).rmdir()
            shutil.copy(good, folder / file)  # with its mode

    def alarms(self) -> dict[tuple[str, str], str]:
        """The text of each alarm, by its name and what it is about."""
        live = ask(str(self.router.state))
        return {(each.name, each.about): each.text for each in live.alarms} if live is not None else {}

    def delivered(self) -> set[str]:
        """The servers that have every event."""
        found = look(self.router.state)
        return {each.name for each in found.destinations if each.delivered >= EVENTS} if found is not None else set()


def _table(name: str, keys: dict[str, Any]) -> str:
    return "\n".join((f"[[{name}]]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items()), ""))


@pytest.fixture
def by_tls(tmp_path: Path) -> Iterator[tuple[Rsyslog, Path]]:
    authority = Authority(tmp_path / "certificates")
    shown = Shown(authority.pair(SERVER), authority.certificate, anyone=True)
    with Rsyslog("imtcp", tls=shown) as collector:
        yield collector, authority.certificate


def test_a_fault_in_one_servers_files_stops_only_that_server_until_it_is_repaired(
    tmp_path: Path, by_tls: tuple[Rsyslog, Path]
) -> None:
    with Rsyslog("imrelp") as plain, Sshd() as sshd:
        machine = Machine(tmp_path, sshd, plain, *by_tls)
        router = machine.router
        good = f"127.0.0.1:{router.local_port}"
        lent = ("repair-needed", f"port-forwarding 127.0.0.1:{machine.lent}")
        for name in FAULTS:
            machine.spoil(name)
        assert router.run("config", "check").returncode == 78

        with router.start() as relay:
            wait_until(lambda: look(router.state) is not None, 60, lambda: relay.log)
            assert router.run("status").returncode == 0
            wanted = {*(("server-lost", name) for name in (*FAULTS, NOWHERE)), lent}
            wait_until(lambda: wanted <= machine.alarms().keys(), 60, lambda: f"{machine.alarms()}\n{relay.log}")
            alarms = machine.alarms()
            for name, fault in FAULTS.items():
                assert fault.remedy in alarms["server-lost", name]
            assert "the host name does not resolve" in alarms["server-lost", NOWHERE]
            assert "correct address, or the name service" in alarms["server-lost", NOWHERE]
            assert "waits for a repair" in alarms[lent]
            assert f"create one: `{PROGRAM} key generate " in alarms[lent]
            errors = {each["name"]: each["error"] for each in router.live()["destinations"]}
            assert all(fault.remedy in errors[name] for name, fault in FAULTS.items())
            assert machine.delivered() == {good}
            assert not listens(machine.lent)
            assert "Traceback" not in relay.log

            for name in FAULTS:
                machine.repair(name)
            everything = {good, *FAULTS}
            wait_until(lambda: machine.delivered() == everything, 60, lambda: relay.log)
            wait_until(lambda: listens(machine.lent), 60, lambda: relay.log)
            wait_until(lambda: machine.alarms().keys() == {("server-lost", NOWHERE)}, 60, lambda: relay.log)


def test_a_connection_test_still_fails_at_the_step_that_needs_the_file(
    tmp_path: Path, by_tls: tuple[Rsyslog, Path]
) -> None:
    with Sshd() as sshd:
        machine = Machine(tmp_path, sshd, by_tls[0], *by_tls)
        for name in FAULTS:
            machine.spoil(name)
        done = machine.router.run("test-connection", "--json", "--no-send")
    servers = {each["name"]: each["steps"] for each in json.loads(done.stdout)["servers"]}
    for name, fault in FAULTS.items():
        (failed,) = [step for step in servers[name] if step["outcome"] == "FAILED"]
        assert (failed["exit_code"], failed["step"]) == (77, fault.step)
        assert fault.remedy in f"{failed['found']}; {failed['remedy']}"
    assert done.returncode == 77


def test_a_receivers_unusable_keys_stop_the_listener_that_needs_them_until_they_are_repaired(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    pair = authority.pair(SERVER)
    host_key, client_key = generate_key(tmp_path / "host"), generate_key(tmp_path / "client")
    folder = tmp_path / "etc"
    folder.mkdir()
    ssh, tls = free_port(), free_port()
    flags = (
        *("--ssh-listen", f"127.0.0.1:{ssh}", "--host-key", f"{folder}/host", "--authorized-keys", f"{folder}/keys"),
        *("--tls-listen", f"127.0.0.1:{tls}", "--certificate", f"{folder}/cert", "--private-key", f"{folder}/key"),
    )
    receiver = Receiver(tmp_path / "server", *flags)

    def errors() -> dict[str, str]:
        live = ask(str(receiver.folder / "state"))
        if live is None:
            return {"relay receive": "does not answer"}
        return {each.about: each.text for each in live.alarms}

    with receiver.running() as process:
        with socket.create_connection(("127.0.0.1", receiver.port)) as sender:
            sender.sendall(octet_counted(b"<14>1 - - - - - - by the plain listener"))
            sender.shutdown(socket.SHUT_WR)
            assert sender.recv(1) == b""
        wait_until(lambda: errors().keys() == {"TLS listener", "SSH end"}, 60, lambda: f"{errors()}\n{process.log}")
        assert f"certificate {folder}/cert: there is no such file" in errors()["TLS listener"]
        assert f"`{PROGRAM} key generate {folder}/host`" in errors()["SSH end"]
        for port in (ssh, tls):
            with socket.create_connection(("127.0.0.1", port)) as refused, contextlib.suppress(ConnectionResetError):
                assert refused.recv(1) == b""

        for source, name in ((host_key, "host"), (pair.certificate, "cert"), (pair.key, "key")):
            shutil.copy(source, folder / name)
        (folder / "keys").write_text(client_key.with_suffix(".pub").read_text())
        with socket.create_connection(("127.0.0.1", ssh)) as sender:
            assert sender.recv(9) == b"SSH-2.0-r"
        plain = socket.create_connection(("127.0.0.1", tls))
        with authority.client().wrap_socket(plain, server_hostname=SERVER) as encrypted:
            assert encrypted.version() == "TLSv1.3"
        wait_until(lambda: not errors(), 60, lambda: f"{errors()}\n{process.log}")
        assert "Traceback" not in process.log


def _run(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
