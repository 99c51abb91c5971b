"""From the private key to the proof through SSH: every step passes, or fails in each possible way, with real peers."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.collector import Collector
from harness.openssh import Sshd, fingerprint, generate_key
from harness.ports import free_port
from harness.relay import Router
from harness.rsyslog import Rsyslog
from harness.waiting import wait_until
from program.connection_test.asking import HASTE, STEPS, UNHURRIED, ask, ask_patiently, in_namespace

from relay.syslog.rfc5424 import Element, identity, parse

BLACK_HOLE = """\
ip link set lo up
ip link add here type veth peer name there
ip address add 192.0.2.1/24 dev here
ip link set here up
ip neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev here nud permanent
ip link set there down"""


def router_to(folder: Path, sshd: Sshd, port: int, framing: str = "octet-counting") -> Router:
    router = Router(folder, sshd, port, framing=framing)
    router.audit_log.touch()
    return router


@contextlib.contextmanager
def peer(*lines: bytes) -> Iterator[int]:
    """A TCP server that sends these lines and then waits."""
    done = threading.Event()

    def serve(_: Collector, connection: socket.socket) -> None:
        for line in lines:
            connection.sendall(line)
        done.wait(30)

    with Collector(serve) as server:
        yield server.port
    done.set()


# --- Open ---


@pytest.mark.parametrize("framing", ["octet-counting", "non-transparent"])
def test_through_sshd_into_rsyslog_every_step_passes_and_the_message_is_visibly_a_test(
    tmp_path: Path, sshd: Sshd, framing: str
) -> None:
    with Rsyslog("imtcp") as rsyslog:
        router = router_to(tmp_path, sshd, rsyslog.port, framing=framing)
        answer = ask(router.configuration)
        (octets,) = rsyslog.wait_for_messages(1)
    assert (answer.exit_code, list(answer.steps), set(answer.outcomes())) == (0, STEPS, {"ok"})
    assert answer.whole["servers"][0]["proof"] == "drained"
    assert answer.sentence.endswith("and its delivery is proven (drained)")
    message = parse(octets)
    assert (message.facility, message.severity) == (5, 6)
    assert (message.hostname, message.app_name, message.msgid) == (b"combo1", b"relay", b"TEST")
    assert message.structured_data == (
        Element(b"128T", ((b"type", b"relay"), (b"router", b"combo1"), (b"node", b"test1"))),
    )
    assert identity(octets) is None
    assert len(octets) <= 480


def test_each_step_reports_its_finding(router: Router, sshd: Sshd) -> None:
    steps = ask(router.configuration).steps
    assert fingerprint(sshd.client_key.with_suffix(".pub")) in steps["private key"]["found"]
    assert fingerprint(sshd.host_keys[0].with_suffix(".pub")) in steps["host key"]["found"]
    assert "OpenSSH" in steps["SSH banner"]["found"]
    assert all(step["milliseconds"] >= 0 for step in steps.values())


def test_without_sending_the_collector_gets_nothing(router: Router, collector: Collector) -> None:
    answer = ask(router.configuration, "--no-send")
    wait_until(lambda: collector.ended == 1, 60, "the collector has seen the end of the connection")
    assert (answer.exit_code, answer.outcomes()[-3:]) == (0, ["ok", "skipped", "skipped"])
    assert answer.whole["servers"][0]["proof"] is None
    assert answer.sentence.endswith("nothing was sent")
    assert (collector.connections, collector.received) == (1, b"")


# --- Key, name, connection ---


def test_a_private_key_that_others_can_read_is_refused(router: Router, sshd: Sshd) -> None:
    sshd.client_key.chmod(0o644)
    failed = ask(router.configuration).failure("private key", 77)
    assert "0644" in failed["found"]
    assert failed["remedy"] == f"`chmod 600 {sshd.client_key}`"
    assert "Connection from" not in sshd.log


def test_a_private_key_with_a_passphrase(router: Router, tmp_path: Path) -> None:
    key = generate_key(tmp_path / "locked", passphrase="secret words")
    router.write_configuration(private_key=str(key))
    failed = ask(router.configuration).failure("private key", 77)
    assert "passphrase" in failed["found"]
    assert f"`ssh-keygen -p -f {key}`" in failed["remedy"]


@pytest.mark.parametrize(
    "text", [None, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"]
)
def test_a_private_key_that_is_missing_or_not_a_key(router: Router, tmp_path: Path, text: str | None) -> None:
    key = tmp_path / "key"
    if text is not None:
        key.touch(0o600)
        key.write_text(text)
    router.write_configuration(private_key=str(key))
    failed = ask(router.configuration).failure("private key", 77)
    assert f"relay key generate {key}" in failed["remedy"]


def test_a_name_that_does_not_resolve(router: Router) -> None:
    router.write_configuration(server_address="no-such-host.invalid")
    failed = ask(router.configuration).failure("name resolution", 68)
    assert "does not resolve" in failed["found"]
    assert "`getent hosts no-such-host.invalid`" in failed["remedy"]


def test_a_port_that_refuses(router: Router) -> None:
    router.write_configuration(server_port=free_port())
    failed = ask(router.configuration).failure("TCP connection", 69)
    assert "connection refused" in failed["found"]
    assert "no SSH server listens there" in failed["remedy"]


def test_a_black_hole_is_no_answer_and_not_a_refusal(router: Router) -> None:
    router.write_configuration(server_address="192.0.2.2")
    answer = ask(router.configuration, *HASTE, prefix=in_namespace("net", BLACK_HOLE))
    failed = answer.failure("TCP connection", 69)
    assert "192.0.2.2: no answer within 0.5 s" in failed["found"]
    assert "firewall" in failed["remedy"]


def test_a_network_to_which_there_is_no_route(router: Router) -> None:
    router.write_configuration(server_address="192.0.2.2")
    failed = ask(router.configuration, *HASTE, prefix=in_namespace("net", ":")).failure("TCP connection", 69)
    assert "192.0.2.2: network is unreachable" in failed["found"]
    assert "`ip route get 192.0.2.2`" in failed["remedy"]


# --- SSH ---


def test_a_server_that_is_not_an_ssh_server(router: Router) -> None:
    with peer(b"220 mail.example ESMTP\r\n" * 200) as port:
        router.write_configuration(server_port=port)
        failed = ask(router.configuration).failure("SSH banner", 76)
    assert "not an SSH server" in failed["found"]


def test_a_banner_that_does_not_come(router: Router) -> None:
    with peer() as port:
        router.write_configuration(server_port=port)
        failed = ask(router.configuration, *HASTE).failure("SSH banner", 76)
    assert "no SSH banner within 0.5 s" in failed["found"]


def test_a_key_exchange_that_does_not_come(router: Router) -> None:
    with peer(b"SSH-2.0-slow\r\n") as port:
        router.write_configuration(server_port=port)
        answer = ask(router.configuration, *UNHURRIED)
    assert "no key exchange within 4 s" in answer.failure("key exchange", 76)["found"]
    assert answer.steps["SSH banner"]["found"] == "SSH-2.0-slow"


@pytest.mark.parametrize(
    ("option", "lists"),
    [
        (
            "KexAlgorithms diffie-hellman-group1-sha1",
            r"no common key exchange: it offers diffie-hellman-group1-sha1.*; relay offers mlkem768x25519-sha256",
        ),
        ("Ciphers 3des-cbc", "no common cipher: it offers 3des-cbc; relay offers aes128-gcm@openssh.com"),
        ("MACs hmac-md5", "no common MAC: it offers hmac-md5; relay offers hmac-sha2-256-etm@openssh.com"),
    ],
)
def test_only_weak_algorithms_name_both_lists(tmp_path: Path, collector: Collector, option: str, lists: str) -> None:
    with Sshd([option]) as sshd:
        failed = ask(router_to(tmp_path, sshd, collector.port).configuration).failure("key exchange", 76)
    assert re.search(lists, failed["found"])


def test_an_unknown_host_key_names_the_command_that_trusts_it(router: Router, sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    failed = ask(router.configuration).failure("host key", 77)
    assert fingerprint(sshd.host_keys[0].with_suffix(".pub")) in failed["found"]
    assert f"relay key trust {sshd.host}:{sshd.port} -c {router.configuration}`" in failed["remedy"]
    assert "publickey" not in sshd.log


def test_a_changed_host_key_names_both_fingerprints(router: Router, sshd: Sshd) -> None:
    sshd.known_hosts.write_text(sshd.known_hosts_line(sshd.other_key))
    failed = ask(router.configuration).failure("host key", 77)
    assert fingerprint(sshd.host_keys[0].with_suffix(".pub")) in failed["found"]
    assert fingerprint(sshd.other_key.with_suffix(".pub")) in failed["found"]
    assert "changed" in failed["found"]


def test_a_known_hosts_that_cannot_be_read_is_reported_by_the_step_that_needs_it(
    router: Router, tmp_path: Path
) -> None:
    router.write_configuration(known_hosts=str(tmp_path))
    answer = ask(router.configuration)
    assert str(tmp_path) in answer.failure("host key", 77)["found"]
    assert set(answer.outcomes()[3:7]) == {"skipped"}


def test_a_refused_key_names_the_line_to_add_and_adding_it_helps(router: Router, sshd: Sshd) -> None:
    router.write_configuration(private_key=str(sshd.other_key))
    failed = ask(router.configuration).failure("authentication", 77)
    assert fingerprint(sshd.other_key.with_suffix(".pub")) in failed["found"]
    sshd.authorized_keys.write_text(failed["remedy"].partition("there: ")[2] + "\n")
    assert ask(router.configuration).exit_code == 0


# --- The forward ---


@pytest.mark.parametrize("option", ["PermitOpen 127.0.0.1:1", "AllowTcpForwarding no"])
def test_a_forward_that_the_server_prohibits(tmp_path: Path, collector: Collector, option: str) -> None:
    with Sshd([option]) as sshd:
        failed = ask(router_to(tmp_path, sshd, collector.port).configuration).failure("forward", 69)
    assert "administratively prohibited" in failed["found"]
    assert option.split(maxsplit=1)[0] in failed["remedy"]
    assert f"127.0.0.1:{collector.port}" in failed["remedy"]


def test_a_remote_port_on_which_nothing_listens(router: Router) -> None:
    port = free_port()
    router.write_configuration(remote_port=port)
    failed = ask(router.configuration).failure("forward", 69)
    assert "connection refused" in failed["found"]
    assert f"nothing listens on 127.0.0.1:{port}" in failed["remedy"]


# --- Message and proof ---


def asked_of(
    folder: Path, sshd: Sshd, serve: Callable[[Collector, socket.socket], None], *arguments: str
) -> dict[str, str]:
    """How the proof fails with a collector of this kind."""
    with Collector(serve) as collector:
        return ask(router_to(folder, sshd, collector.port).configuration, *arguments).failure("proof", 76)


def test_a_collector_that_never_closes(tmp_path: Path, sshd: Sshd) -> None:
    done = threading.Event()

    def stay(collector: Collector, connection: socket.socket) -> None:
        collector.read_to_the_end(connection)
        done.wait(30)

    failed = asked_of(tmp_path, sshd, stay, *UNHURRIED)
    done.set()
    assert "it did not close within 4 s" in failed["found"]
    assert "--timeout 60" in failed["remedy"]


def test_a_collector_that_closes_at_once(tmp_path: Path, sshd: Sshd) -> None:
    with Collector(lambda _, connection: connection.close()) as collector:
        configuration = router_to(tmp_path, sshd, collector.port).configuration
        failed = ask_patiently(configuration).failure("test message", 76)
    assert "it closes the connection at once" in failed["found"]


def test_a_collector_that_has_gone_after_the_message(tmp_path: Path, sshd: Sshd) -> None:
    """Its end of file alone is not a proof: a killed collector sends one too."""

    def read_and_go(collector: Collector, connection: socket.socket) -> None:
        collector.read_to_the_end(connection)
        collector.stop_listening()

    failed = asked_of(tmp_path, sshd, read_and_go)
    assert "it was gone before the proof was complete (connection refused)" in failed["found"]


def test_a_session_lost_during_the_proof(tmp_path: Path, sshd: Sshd) -> None:
    def cut(collector: Collector, connection: socket.socket) -> None:
        collector.read_to_the_end(connection)
        sshd.kill_sessions()

    failed = asked_of(tmp_path, sshd, cut)
    assert failed["found"] == f"SSH server {sshd.host}: the SSH session broke off"


# --- Several servers ---


@pytest.fixture
def with_second(router: Router) -> Router:
    """The router with a second server, at whose port nothing listens."""
    local, remote = free_port(), free_port()
    text = router.configuration.read_text()
    table = text[text.index("[[port-forwarding]]") : text.index("[[remote-logging-server]]")]
    for key, value in (("local-port", local), ("remote-port", remote)):
        table = table.replace(f"{key} = {router.forwarding[key]}", f"{key} = {value}")
    server = f'[[remote-logging-server]]\nname = "second"\nport = {local}\n'
    router.configuration.write_text(text + table + server)
    return router


def test_every_server_is_tried_and_the_first_failure_gives_the_exit_code(with_second: Router) -> None:
    answer = ask(with_second.configuration)
    assert [(server["name"], server["exit_code"]) for server in answer.whole["servers"]] == [
        (f"127.0.0.1:{with_second.local_port}", 0),
        ("second", 69),
    ]
    assert (answer.exit_code, answer.sentence) == (69, "1 of 2 servers cannot be delivered to: second")


def test_one_server_can_be_chosen(with_second: Router) -> None:
    name = f"127.0.0.1:{with_second.local_port}"
    answer = ask(with_second.configuration, "--server", name)
    assert (answer.exit_code, [server["name"] for server in answer.whole["servers"]]) == (0, [name])
    assert "connection refused" in ask(with_second.configuration, "--server", "second").failure("forward", 69)["found"]


def test_a_server_that_is_not_configured_is_a_usage_error_that_names_the_configured_ones(with_second: Router) -> None:
    done = with_second.run("test-connection", "--server", "third")
    assert (done.returncode, done.stdout) == (64, "")
    assert f"the names are 127.0.0.1:{with_second.local_port}, second" in done.stderr
    assert done.stderr.count("\n") == 1
