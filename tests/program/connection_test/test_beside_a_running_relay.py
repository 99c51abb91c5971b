"""`relay test-connection` beside `relay run`, which it does not disturb."""

from harness.openssh import Sshd
from harness.ports import listens
from harness.relay import SEED, Router, nothing_waits
from harness.rsyslog import Rsyslog
from harness.waiting import wait_until
from program.connection_test.asking import ask

LATER = b"type=USER_LOGIN msg=audit(1709742999.000:99999): pid=1 uid=0 res=success\n"


def settled(router: Router) -> tuple[object, ...]:
    """The proofs of the running relay, and its process."""
    status = router.status()
    destination = status["destinations"][0]
    return (
        status["pid"],
        destination["delivered"],
        destination["waiting_events"],
        destination["proven_at"],
        (router.state / "lock").read_bytes(),
        (router.state / "lock").stat(),
    )


def test_session_cursor_lock_and_messages_stay_as_they_are(router: Router, sshd: Sshd) -> None:
    with Rsyslog("imtcp") as rsyslog:
        router.write_configuration(remote_port=rsyslog.port)
        router.audit_log.write_bytes(SEED.read_bytes())
        with router.start() as relay:
            rsyslog.wait_for_messages(26)
            wait_until(lambda: nothing_waits(router.state), 60, "the last proof")
            assert router.status()["destinations"][0]["delivered"] == 27
            wait_until(lambda: listens(router.local_port), 60, lambda: f"the local port is open:\n{relay.log}")
            before, sessions = settled(router), set(sshd.sessions())

            answer = ask(router.configuration)

            assert (answer.exit_code, set(answer.outcomes())) == (0, {"ok"})
            assert f"is the running relay's (process {relay.pid})" in answer.steps["local port"]["found"]
            assert settled(router) == before
            wait_until(lambda: set(sshd.sessions()) == sessions, 60, "the test's own session ends")
            assert [b" TEST [" in message for message in rsyslog.wait_for_messages(28)] == [False] * 27 + [True]
            with router.audit_log.open("ab") as log:
                log.write(LATER)
            assert b"USER_LOGIN" in rsyslog.wait_for_messages(29)[-1]
            assert set(sshd.sessions()) == sessions
            relay.stop()
            assert relay.complaints == []
