"""The auditd protocol from end to end, with the real auditd and audisp-remote at every other point."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from harness.auditd import AudispRemote, Auditd, search
from harness.openssh import Sshd
from harness.ports import LOOPBACK, free_port, listens
from harness.process import Process
from harness.receiver import Receiver
from harness.relay import SEED, Router, archived, look
from harness.waiting import wait_until

from relay.program.status.control_socket import ask
from relay.syslog.rfc5424 import hostname, identity, parse

PACE = 0.1
"""Seconds from one record to the next, on a router where something is always audited."""
OUT_OF_PATIENCE = 11.0
"""Seconds without an answer; two of audisp-remote's own 5 s for a record."""


def record(serial: int, more: bytes = b"") -> bytes:
    return b'node=combo1 type=USER_LOGIN msg=audit(1709742929.678:%d): pid=1 acct="root"%b res=success' % (serial, more)


RECORDS = [record(serial) for serial in range(1, 201)]


@pytest.fixture
def far_end(auditd: Auditd) -> Auditd:
    return auditd


@pytest.fixture
def router(tmp_path: Path, sshd: Sshd, auditd: Auditd) -> Router:
    return Router(tmp_path, sshd, auditd.port, protocol="auditd")


def take_from_audisp_remote(router: Router) -> int:
    """Make the router's audisp-remote the source instead of the log; returns the port that it sends to."""
    port = free_port()
    router.audit["watch-auditd"] = "never"  # no auditd of this machine's feeds it
    router.write_configuration()
    log = f'type = "audit-log"\npath = "{router.audit_log}"'
    text = router.configuration.read_text()
    assert log in text
    router.configuration.write_text(text.replace(log, f'type = "auditd-remote"\nlisten = ["tcp://{LOOPBACK}:{port}"]'))
    return port


def wait_until_open(port: int, relay: Process) -> None:
    wait_until(lambda: listens(port) or not relay.running, 60, lambda: relay.log)
    assert relay.running, relay.log


def of_users(records: list[bytes]) -> list[bytes]:
    """Without relay's own events."""
    return [record for record in records if b" type=TRUSTED_APP " not in record]


def wait_for_records(auditd: Auditd, count: int, seconds: float = 60) -> list[bytes]:
    wait_until(
        lambda: len(of_users(auditd.records())) >= count,
        seconds,
        lambda: f"{count} records; there are {len(of_users(auditd.records()))}",
    )
    return of_users(auditd.records())


def feed_steadily(
    sender: AudispRemote, records: Iterator[bytes], until: Callable[[], object], seconds: float
) -> list[bytes]:
    """Feed a record every PACE seconds until the condition holds; returns the records."""
    fed: list[bytes] = []
    begun = time.monotonic()

    def feed_and_look() -> object:
        if time.monotonic() >= begun + len(fed) * PACE:
            fed.append(next(records))
            sender.feed(fed[-1:])
        return until()

    wait_until(feed_and_look, seconds, lambda: f"fed {len(fed)} records meanwhile")
    return fed


def refused(auditd: Auditd) -> int:
    """How many audit events relay has reported to the log server as lost."""
    gaps = b"".join(record for record in auditd.records() if b' msgid="GAP" ' in record)
    lost = [bytes.fromhex(text.decode()) for text in re.findall(rb" lost=([0-9A-F]+)", gaps)]
    return sum(int(events) for text in lost for events in re.findall(rb" audit \d+ \d+ (\d+)", text))


def stored(router: Router) -> int:
    """Audit events in its spool."""
    found = look(router.state)
    return found.retained.by_type.get("audit", 0) if found is not None else 0


def test_auditd_gets_every_golden_record_under_the_routers_name(router: Router, auditd: Auditd) -> None:
    router.audit_log.write_bytes(SEED.read_bytes())
    done = router.drain()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    seed = SEED.read_bytes().splitlines()
    assert sorted(of_users(auditd.records())) == sorted(b"node=combo1 " + record for record in seed)
    log = router.folder / "far.log"
    log.write_bytes(auditd.log_file.read_bytes())
    found = [search(log, "--node", node).stdout.count(" type=SYSCALL ") for node in ("combo1", "combo2")]
    assert found == [sum(b"type=SYSCALL " in record for record in seed), 0]
    destination = router.status()["destinations"][0]
    assert (destination["proof"], destination["waiting_events"], destination["delivered"]) == ("acknowledged", 0, 27)


def test_without_a_node_name_every_golden_record_arrives_as_auditd_wrote_it(router: Router, auditd: Auditd) -> None:
    router.server["node-name"] = "none"
    router.write_configuration()
    router.audit_log.write_bytes(SEED.read_bytes())
    assert router.drain().returncode == 0
    assert sorted(of_users(auditd.records())) == sorted(SEED.read_bytes().splitlines())


def test_audisp_remote_hands_over_to_relay_and_relay_to_auditd(router: Router, auditd: Auditd) -> None:
    port = take_from_audisp_remote(router)
    with router.start() as relay, AudispRemote(port) as sender:
        wait_until_open(port, relay)
        sender.feed(RECORDS)
        assert wait_for_records(auditd, len(RECORDS)) == RECORDS
        relay.stop()
        assert relay.complaints == []


def test_audisp_remote_does_not_notice_a_lost_log_server(router: Router, auditd: Auditd) -> None:
    """The spool keeps what audisp-remote sends, and the server gets it when it is back."""
    port = take_from_audisp_remote(router)
    auditd.kill()
    with router.start() as relay, AudispRemote(port) as sender:
        wait_until_open(port, relay)
        sender.feed(RECORDS)
        wait_until(lambda: stored(router) == len(RECORDS), 60, lambda: relay.log)
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


def test_relay_receive_accepts_audisp_remote_on_its_one_port_and_files_by_node(tmp_path: Path) -> None:
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


def test_a_constant_stream_of_records_arrives_again_after_a_freeze(router: Router, auditd: Auditd) -> None:
    """audisp-remote alone would connect again only after 30 s without any record, so never."""
    port = take_from_audisp_remote(router)
    records = map(record, count(1))
    with router.start() as relay, AudispRemote(port) as sender:
        wait_until_open(port, relay)
        fed = feed_steadily(sender, records, lambda: of_users(auditd.records()), 60)
        thaw = time.monotonic() + OUT_OF_PATIENCE
        relay.suspend()
        fed += feed_steadily(sender, records, lambda: time.monotonic() >= thaw, 60)
        os.kill(relay.pid, signal.SIGCONT)
        feed_steadily(sender, records, lambda: set(of_users(auditd.records())) >= set(fed), 60)


def test_more_records_than_the_senders_queue_holds_arrive_when_the_log_server_is_back(
    router: Router, auditd: Auditd
) -> None:
    """By itself audisp-remote keeps 2,048 records."""
    port = take_from_audisp_remote(router)
    records = list(map(record, range(1, 2301)))
    auditd.kill()
    with router.start() as relay, AudispRemote(port) as sender:
        wait_until_open(port, relay)
        sender.feed(records)
        wait_until(lambda: stored(router) == len(records), 60, lambda: f"{stored(router)} stored; {relay.log}")
        auditd.start()
        assert wait_for_records(auditd, len(records), 60) == records


def test_a_full_spool_refuses_nothing_of_audisp_remote_which_waits_until_there_is_space(
    router: Router, auditd: Auditd
) -> None:
    router.audit |= {"disk-full-action": "ignore", "space-left": "0B"}
    port = take_from_audisp_remote(router)
    with router.configuration.open("a") as configuration:
        configuration.write('[spool]\nsegment-size = "1MiB"\nmax-size = "4MiB"\n')
    fed = [record(serial, b" x=" + b"y" * 8000) for serial in range(1, 601)]
    auditd.kill()
    with router.start() as relay, AudispRemote(port) as sender:
        wait_until_open(port, relay)
        feeding = threading.Thread(target=sender.feed, args=(fed,))  # blocks while audisp-remote waits for an answer
        feeding.start()
        try:
            wait_until(lambda: waits_for_space(router), 60, lambda: relay.log)
        finally:
            auditd.start()
            feeding.join(60)
        assert not feeding.is_alive()
        more = map(record, count(len(fed) + 1))  # a new record wakes it when its tries are used up
        fed += feed_steadily(sender, more, lambda: set(of_users(auditd.records())) >= set(fed), 60)
        assert refused(auditd) == 0


def waits_for_space(router: Router) -> bool:
    live = ask(str(router.state))
    return live is not None and any(source.waits_for_space for source in live.sources)
