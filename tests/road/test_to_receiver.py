"""`relay run` into `relay receive`: through OpenSSH's sshd, and through the receiver's own SSH end."""

import socket
from pathlib import Path

import pytest
from harness.openssh import Sshd, generate_key
from harness.ports import free_port
from harness.receiver import Receiver, identities
from harness.records import closed, generate, serials
from harness.relay import SEED, Router, nothing_waits
from harness.waiting import wait_until

BACKLOG = 100_000
SMALLER_BACKLOG = 40_000
"""Long enough to be hit in its middle."""
ATTEMPTS = 3
EXACT = ["syslog", "relp"]
"""The protocols that carry relay's identities, by which the archive recognises duplicates."""
PROOFS = {"syslog": "drained", "relp": "acknowledged", "auditd": "acknowledged"}


@pytest.mark.parametrize("protocol", EXACT)
def test_each_of_the_golden_events_is_archived_once(tmp_path: Path, receiver: Receiver, protocol: str) -> None:
    with receiver.running() as process, Sshd([f"PermitOpen 127.0.0.1:{receiver.port}"]) as sshd:
        router = Router(tmp_path, sshd, receiver.port, protocol=protocol)
        router.audit_log.write_bytes(SEED.read_bytes())
        assert router.drain().returncode == 0
        receiver.wait_for_messages(26)
        records = [line for message in receiver.messages() for line in message.partition(b"] ")[2].split(b"\n")]
        assert sorted(records) == sorted(SEED.read_bytes().splitlines())
        assert [path.name for path in sorted(receiver.archive.glob("[!.]*"))] == sorted(
            ["combo1", socket.gethostname()]
        )
        assert router.status()["destinations"][0]["proof"] == PROOFS[protocol]
        process.stop()
        assert process.complaints == []


@pytest.mark.parametrize("protocol", EXACT)
def test_each_event_is_archived_once_through_the_receivers_own_ssh_end(tmp_path: Path, protocol: str) -> None:
    host_key, client_key = generate_key(tmp_path / "host_key"), generate_key(tmp_path / "client_key")
    ssh_port = free_port()
    keys = tmp_path / "authorized_keys"
    receiver = Receiver(
        tmp_path / "server",
        *("--ssh-listen", f"127.0.0.1:{ssh_port}", "--host-key", str(host_key), "--authorized-keys", str(keys)),
    )
    public = client_key.with_suffix(".pub").read_text()
    keys.write_text(f'restrict,port-forwarding,permitopen="127.0.0.1:{receiver.port}" {public}')
    keys.chmod(0o600)
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{ssh_port} {host_key.with_suffix('.pub').read_text()}")
    with receiver.running(), Sshd() as unused:
        router = Router(tmp_path, unused, receiver.port, protocol=protocol)
        router.write_configuration(
            server_port=ssh_port, private_key=str(client_key), known_hosts=str(known_hosts), username="relay"
        )
        router.audit_log.write_bytes(SEED.read_bytes())
        done = router.drain()
        assert (done.returncode, done.stderr) == (0, "")
        receiver.wait_for_messages(26)
        assert identities(receiver.messages()) == [(identities(receiver.messages())[0][0], n) for n in range(1, 27)]
        assert router.status()["destinations"][0]["proof"] == PROOFS[protocol]


def test_by_the_auditd_protocol_every_record_is_archived(tmp_path: Path, receiver: Receiver) -> None:
    with receiver.running() as process, Sshd() as sshd:
        router = Router(tmp_path, sshd, receiver.port, protocol="auditd")
        router.audit_log.write_bytes(SEED.read_bytes())
        done = router.drain()
        assert (done.returncode, done.stderr) == (0, "")
        records = SEED.read_bytes().splitlines()
        receiver.wait_for_messages(len(records) + 1)  # and relay's own event
        archived_records = [message.partition(b"] ")[2] for message in receiver.messages()]
        audit_records = [each for each in archived_records if b"TRUSTED_APP" not in each]
        assert sorted(audit_records) == sorted(b"node=combo1 " + record for record in records)
        assert router.status()["destinations"][0]["proof"] == PROOFS["auditd"]
        process.stop()
        assert process.complaints == []


def test_with_sshd_killed_in_the_middle_nothing_is_lost_or_archived_twice(tmp_path: Path, receiver: Receiver) -> None:
    """100,000 records; sshd and its sessions are killed once some have arrived, and started again.

    On a busy machine the stroke may come too late to hit the middle: then the log grows by as many, for another one.
    """
    with receiver.running(), Sshd() as sshd:
        router = Router(tmp_path, sshd, receiver.port)
        router.audit_log.touch()
        events = 0
        with router.start() as relay:
            for attempt in range(1, ATTEMPTS + 1):
                with router.audit_log.open("ab") as log:
                    log.write(closed(generate(BACKLOG, first_serial=attempt * 200_000)))
                reached = _strike(sshd, receiver, events + BACKLOG // 10) - events
                events = len(serials(router.audit_log.read_bytes()))
                if reached < BACKLOG // 2:
                    break
            assert reached < BACKLOG // 2, "each stroke came too late to hit the middle"
            receiver.wait_for_messages(events, 90)
            wait_until(lambda: nothing_waits(router.state), 60, "the last proof")
            relay.stop()
            assert f"lost 127.0.0.1:{router.local_port}" in relay.log
            assert f"recovered 127.0.0.1:{router.local_port}" in relay.log
        messages = receiver.messages()
        assert len(messages) == events
        assert serials(b"\n".join(messages)) == serials(router.audit_log.read_bytes())
        assert len(set(identities(messages))) == events


def _strike(sshd: Sshd, receiver: Receiver, arrived: int) -> int:
    """Kill sshd once so many have arrived, and start it again; how many there were then."""
    receiver.wait_for_messages(arrived)
    sshd.kill()
    reached = len(receiver.messages())
    sshd.start()
    return reached


@pytest.mark.parametrize("protocol", EXACT)
def test_with_the_receiver_killed_in_the_middle_nothing_is_lost_or_archived_twice(
    tmp_path: Path, receiver: Receiver, protocol: str
) -> None:
    with Sshd() as sshd:
        router = Router(tmp_path, sshd, receiver.port, protocol=protocol)
        router.audit_log.write_bytes(closed(generate(SMALLER_BACKLOG)))
        events = len(serials(router.audit_log.read_bytes()))
        with router.start() as relay:
            for share in (10, 4):
                with receiver.running() as process:
                    receiver.wait_for_messages(events // share)
                    process.kill()
            with receiver.running():
                receiver.wait_for_messages(events, 90)
                wait_until(lambda: nothing_waits(router.state), 60, "the last proof")
            relay.stop()
        messages = receiver.messages()
        assert len(messages) == len(set(identities(messages))) == events
        assert serials(b"\n".join(messages)) == serials(router.audit_log.read_bytes())


def test_with_relay_run_killed_repeatedly_nothing_is_lost_or_archived_twice(tmp_path: Path, receiver: Receiver) -> None:
    with receiver.running(), Sshd() as sshd:
        router = Router(tmp_path, sshd, receiver.port)
        router.audit_log.write_bytes(closed(generate(SMALLER_BACKLOG // 2)))
        events = len(serials(router.audit_log.read_bytes()))
        for share in (20, 8, 4, 2):
            with router.start() as relay:
                receiver.wait_for_messages(events // share)
                relay.kill()
        assert router.drain().returncode == 0
        messages = receiver.wait_for_messages(events)
        assert len(messages) == len(set(identities(messages))) == events
        assert serials(b"\n".join(messages)) == serials(router.audit_log.read_bytes())


def test_a_drain_archives_what_a_killed_receiver_had_accepted(tmp_path: Path, receiver: Receiver) -> None:
    with Sshd() as sshd:
        router = Router(tmp_path, sshd, receiver.port)
        router.audit_log.write_bytes(SEED.read_bytes())
        assert router.drain(seconds=2).returncode == 75  # nobody listens; all of it waits now, to go at once
        with receiver.running(RELAY_CRASH_AT="archive-written:2") as process, router.start() as relay:
            wait_until(lambda: not process.running, 60, "the receiver's death, while it archives them")
            relay.stop()
    done = router.run("receive", "--drain", "--state", f"{receiver.folder}/state", "--archive", str(receiver.archive))
    assert done.returncode == 0
    assert all("has no effect on `relay receive`" in line for line in done.stderr.splitlines()), done.stderr
    assert len(receiver.messages()) == len(set(identities(receiver.messages()))) > 0
