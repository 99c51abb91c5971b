"""HAProxy in front of `relay receive`: RELP and TLS reach it, and the ledger has the real sender's address."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.certificates import SERVER, Authority
from harness.haproxy import HaProxy
from harness.ports import LOOPBACK, free_port
from harness.receiver import Receiver, ledgered
from harness.rsyslog import RsyslogForwarder
from harness.waiting import wait_until

SENDER = "127.0.0.9"
MESSAGE = b"<13>1 2003-10-11T22:14:15.003Z router app - - - behind a proxy"
CONFIGURATION = """\
[receiver]
proxy-protocol = true
proxies = ["127.0.0.1", "192.0.2.0/24"]
"""


@pytest.fixture
def tls_port() -> int:
    return free_port()


@pytest.fixture
def receiver(tmp_path: Path, tls_port: int, authority: Authority) -> Iterator[Receiver]:
    pair = authority.pair(SERVER, LOOPBACK)
    configuration = tmp_path / "relay.toml"
    configuration.write_text(CONFIGURATION)
    flags = {"-c": configuration, "--tls-listen": f"{LOOPBACK}:{tls_port}"}
    flags |= {"--certificate": pair.certificate, "--private-key": pair.key}
    instance = Receiver(tmp_path / "server", *(str(word) for flag in flags.items() for word in flag))
    with instance.running() as process:
        yield instance
        process.stop()


def test_the_ledger_has_the_sender_behind_the_proxy(receiver: Receiver, tls_port: int, authority: Authority) -> None:
    with (
        HaProxy(receiver.port, "send-proxy-v2") as for_relp,
        HaProxy(tls_port, "send-proxy") as for_tls,
        RsyslogForwarder(for_relp.port, "relp", more=f'localClientIP="{SENDER}"') as rsyslog,
        socket.create_connection((LOOPBACK, for_tls.port), source_address=(SENDER, 0)) as plain,
        authority.client().wrap_socket(plain, server_hostname=SERVER) as by_tls,
    ):
        with socket.create_connection((LOOPBACK, rsyslog.port)) as program:
            program.sendall(MESSAGE + b"\n")
        by_tls.sendall(b"%d %b" % (len(MESSAGE), MESSAGE))
        by_tls.unwrap()  # returns with relay's close_notify: accepted
        wait_until(lambda: len(ledgered(receiver.archive, "router")) == 2, 60, receiver.status)
        found = {extent["via"].rpartition(" ")[2]: extent["from"] for extent in ledgered(receiver.archive, "router")}
        assert found == {"relp": SENDER, "syslog": SENDER}
