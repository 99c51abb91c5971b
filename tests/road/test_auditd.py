"""The auditd protocol over the whole road, with the real auditd and audisp-remote at every point that is not ours."""

from pathlib import Path

import pytest
from harness.auditd import AudispRemote, Auditd
from harness.openssh import Sshd
from harness.ports import LOOPBACK, free_port, listens
from harness.process import Process
from harness.receiver import Receiver
from harness.relay import SEED, Router, archived
from harness.waiting import wait_until

from relay.syslog.rfc5424 import hostname, identity, parse

RECORDS = [
    b'node=combo1 type=USER_LOGIN msg=audit(1709742929.678:%d): pid=1 acct="root" res=success' % serial
    for serial in range(1, 201)
]


@pytest.fixture
def far_end(auditd: Auditd) -> Auditd:
    return auditd


@pytest.fixture
def router(tmp_path: Path, sshd: Sshd, auditd: Auditd) -> Router:
    return Router(tmp_path, sshd, auditd.port, protocol="auditd")


def take_from_audisp_remote(router: Router) -> int:
    """Have the router's source be its own audisp-remote instead of the log; the port it is to send to."""
    port = free_port()
    router.audit["watch-auditd"] = "never"  # no auditd of this machine's feeds it
    router.write_configuration()
    log = f'type = "audit-log"\npath = "{router.audit_log}"'
    text = router.configuration.read_text()
    assert log in text
    router.configuration.write_text(text.replace(log, f'type = "auditd-remote"\nlisten = ["tcp://{LOOPBACK}:{port}"]'))
    return port


def wait_until_open(port: int, relay: Process) -> None:
    wait_until(lambda: listens(port) or not relay.running, 20, lambda: relay.log)
    assert relay.running, relay.log


def of_users(records: list[bytes]) -> list[bytes]:
    """Without relay's own events."""
    return [record for record in records if b" type=TRUSTED_APP " not in record]


def wait_for_records(auditd: Auditd, count: int, seconds: float = 30) -> list[bytes]:
    wait_until(
        lambda: len(of_users(auditd.records())) >= count,
        seconds,
        lambda: f"{count} records; there are {len(of_users(auditd.records()))}",
    )
    return of_users(auditd.records())


def stored(router: Router) -> int:
    """Audit events in its spool."""
    count = router.status()["retained"]["by_type"].get("audit", 0)
    assert isinstance(count, int)
    return count


def test_the_routers_own_log_server_gets_every_record_of_the_seed_as_auditd_wrote_it(
    router: Router, auditd: Auditd
) -> None:
    router.audit_log.write_bytes(SEED.read_bytes())
    done = router.drain()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    seed = SEED.read_bytes().splitlines()
    assert sorted(of_users(auditd.records())) == sorted(seed)
    destination = router.status()["destinations"][0]
    assert (destination["proof"], destination["waiting_events"], destination["delivered"]) == ("acknowledged", 0, 27)


def test_audisp_remote_hands_over_to_relay_and_relay_to_auditd(router: Router, auditd: Auditd) -> None:
    port = take_from_audisp_remote(router)
    with router.start() as relay, AudispRemote(port) as sender:
        wait_until_open(port, relay)
        sender.feed(RECORDS)
        assert wait_for_records(auditd, len(RECORDS)) == RECORDS
        relay.stop()
        assert relay.log == ""


def test_a_lost_log_server_does_not_reach_audisp_remote(router: Router, auditd: Auditd) -> None:
    """Relay's spool takes what audisp-remote has to send, and the server gets it when it is back."""
    port = take_from_audisp_remote(router)
    auditd.kill()
    with router.start() as relay, AudispRemote(port) as sender:
        wait_until_open(port, relay)
        sender.feed(RECORDS)
        wait_until(lambda: stored(router) == len(RECORDS), 30, lambda: relay.log)
        auditd.start()
        assert wait_for_records(auditd, len(RECORDS), 60) == RECORDS


def test_nothing_that_audisp_remote_sends_is_lost_when_relay_is_killed(router: Router, auditd: Auditd) -> None:
    port = take_from_audisp_remote(router)
    with AudispRemote(port) as sender:
        with router.start() as relay:
            wait_until_open(port, relay)
            sender.feed(RECORDS[:100])
            wait_for_records(auditd, 20)
            relay.kill()
        with router.start() as relay:
            wait_until_open(port, relay)
            sender.feed(RECORDS[100:])  # a new record wakes it when its tries are used up
            wait_until(lambda: set(of_users(auditd.records())) >= set(RECORDS), 60, lambda: relay.log)
    assert len(of_users(auditd.records())) <= 2 * len(RECORDS)


def test_audisp_remote_reaches_auditd_through_the_local_port(router: Router, auditd: Auditd) -> None:
    router.audit_log.touch()
    with router.start() as relay:
        wait_until_open(router.local_port, relay)
        with AudispRemote(router.local_port) as sender:
            sender.feed(RECORDS)
            assert wait_for_records(auditd, len(RECORDS)) == RECORDS
        relay.stop()


def test_relay_receive_takes_audisp_remote_on_its_one_port_and_files_by_node(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    with receiver.running() as process, AudispRemote(receiver.port) as sender:
        nameless = RECORDS[0].removeprefix(b"node=combo1 ")
        sender.feed([*RECORDS[:20], nameless, b"no record \xff"])
        receiver.wait_for_messages(22)
        assert process.running
    messages = receiver.messages()
    by_host = {host: [m for m in messages if hostname(m) == host] for host in (b"combo1", b"127.0.0.1")}
    assert [parse(message).msg for message in by_host[b"combo1"]] == RECORDS[:20]
    assert [parse(message).msg for message in by_host[b"127.0.0.1"]] == [nameless, b"no record \xff"]
    assert {identity(message) for message in archived(receiver.archive) if message in messages} == {None}
    assert {path.name for path in receiver.archive.glob("[!.]*")} >= {"127.0.0.1", "combo1"}
