"""A renamed server, a new server behind an old name, and a server that does not accept a message."""

import re
from pathlib import Path

from harness.openssh import Sshd
from harness.relay import SEED, Router, audit_events
from harness.rsyslog import AbortingRsyslog, Rsyslog
from harness.waiting import wait_until

EVENTS = 26  # in SEED
ANOTHER = b"type=USER_LOGIN msg=audit(1709742931.001:9002): pid=1 uid=0 res=success msg='op=login'\n"
TOO_LONG = b"type=USER_LOGIN msg=audit(1709742930.001:9001): pid=1 uid=0 res=success msg='op=%b'\n" % (b"x" * 9000)


def test_a_renamed_server_gets_nothing_twice_and_a_new_one_behind_the_same_local_end_gets_everything(
    tmp_path: Path, sshd: Sshd, rsyslog: Rsyslog
) -> None:
    router = Router(tmp_path, sshd, rsyslog.port)
    router.audit_log.write_bytes(SEED.read_bytes())
    assert router.drain().returncode == 0
    assert len(audit_events(rsyslog.messages())) == EVENTS

    router.server["name"] = "logs"
    router.write_configuration(server_address=sshd.host.upper())
    done = router.drain()
    assert (done.returncode, len(audit_events(rsyslog.messages()))) == (0, EVENTS)
    where = f"syslog {sshd.host}:{sshd.port} 127.0.0.1:{rsyslog.port}"
    former = f"127.0.0.1:{router.local_port}"
    assert f"logs continues where {former} was: the same protocol and final address ({where})" in done.stderr
    assert [each["name"] for each in router.status()["destinations"]] == ["logs"]

    with Rsyslog("imtcp") as other, Sshd([f"PermitOpen 127.0.0.1:{other.port}"]) as other_sshd:
        router.sshd = other_sshd
        router.write_configuration(
            remote_port=other.port,
            server_port=other_sshd.port,
            known_hosts=str(other_sshd.known_hosts),
            private_key=str(other_sshd.client_key),
        )
        done = router.drain()
        assert done.returncode == 0, done.stderr
        assert len(audit_events(other.messages())) == EVENTS
        assert "logs is another log server than before" in done.stderr
        assert [each["name"] for each in router.status()["destinations"]] == ["logs", f"logs (before: {where})"]


def test_a_message_at_fault_is_skipped_within_seconds_even_if_it_is_the_last(tmp_path: Path) -> None:
    """The heartbeats then prove that the collector works; status and log name the key to set."""
    with AbortingRsyslog(8192) as rsyslog, Sshd() as sshd:
        router = Router(tmp_path, sshd, rsyslog.port, protocol="relp")
        router.audit_log.write_bytes(SEED.read_bytes() + TOO_LONG)
        with router.start() as relay:
            relay.wait_for_log("kept in")
            assert "set max-message-size of this server" in relay.log
            assert re.search(r"refuses audit event 27 of \d+ octets", relay.log), relay.log
            with router.audit_log.open("ab") as log:
                log.write(ANOTHER)
            wait_until(lambda: b" GAP [" in b"".join(rsyslog.messages()), 60, lambda: relay.log)
            (live,) = router.live()["destinations"]
            assert (live["refused"], live["error"]) == (1, "")
            assert live["largest_refused"] > 9000
            shown = router.run("status").stdout
            assert "1 message not accepted by the server, kept in refused/" in shown
            assert "set max-message-size" in shown
            relay.stop()
        assert len(set(audit_events(rsyslog.messages()))) == EVENTS + 1
        assert (router.state / "refused" / f"127.0.0.1:{router.local_port}.syslog").stat().st_size > 9000
