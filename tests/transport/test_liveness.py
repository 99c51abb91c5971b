"""The rule that distinguishes a dead peer from a slow one, with a simulated clock."""

from relay.transport.ssh.liveness import Liveness, LivenessAction, LivenessSample, LivenessTimeouts

_TIMEOUTS = LivenessTimeouts(quiet=4, answer=8)


class _Peer:
    """A peer that is checked every half second; a test changes its counts."""

    def __init__(self) -> None:
        self.now = 0.0
        self.received = 0
        self.acknowledged = 0
        self.rule = Liveness(_TIMEOUTS, self._sample())

    def _sample(self) -> LivenessSample:
        return LivenessSample(now=self.now, received=self.received, acknowledged=self.acknowledged)

    def look(self, seconds: float = 0.5) -> LivenessAction:
        self.now += seconds
        return self.rule.check(self._sample())

    def look_until(self, verdict: LivenessAction, limit: float) -> float:
        while self.look() is not verdict:
            assert self.now < limit, f"no {verdict} within {limit} s"
        return self.now


def test_a_peer_that_sends_is_never_asked() -> None:
    peer = _Peer()
    for _ in range(100):
        peer.received += 1
        assert peer.look() is LivenessAction.ALIVE


def test_a_silent_peer_is_asked_once_and_dead_when_it_does_not_answer() -> None:
    peer = _Peer()
    assert peer.look_until(LivenessAction.ASK, 5) == 4
    peer.rule.asked(0)
    assert peer.look_until(LivenessAction.DEAD, 15) == 12


def test_a_peer_that_answers_is_asked_again_only_after_another_silence() -> None:
    peer = _Peer()
    for round_ in range(1, 4):
        peer.look_until(LivenessAction.ASK, 5.0 * round_)
        peer.rule.asked(0)
        peer.received += 1
        assert peer.look() is LivenessAction.ALIVE


def test_a_frozen_process_is_dead_although_its_kernel_continues_to_acknowledge() -> None:
    peer = _Peer()
    peer.look_until(LivenessAction.ASK, 5)
    peer.rule.asked(100)
    peer.acknowledged = 100
    died = None
    while died is None:
        peer.acknowledged += 300  # messages trickle on
        if peer.look() is LivenessAction.DEAD:
            died = peer.now
        assert peer.now < 15
    assert died == 12.5


def test_a_request_queued_behind_data_has_time_as_long_as_the_data_moves() -> None:
    peer = _Peer()
    peer.look_until(LivenessAction.ASK, 5)
    peer.rule.asked(100_000)
    for _ in range(80):
        peer.acknowledged += 1000
        assert peer.look() is LivenessAction.ALIVE
    peer.received += 1
    assert peer.look() is LivenessAction.ALIVE


def test_a_request_that_blocks_before_it_is_sent_does_not_delay_the_verdict() -> None:
    """The peer is frozen and the socket is full: the request blocks, so `asked` is never called."""
    peer = _Peer()
    peer.look_until(LivenessAction.ASK, 5)
    assert peer.look_until(LivenessAction.DEAD, 15) == 12


def test_the_time_during_which_relay_was_suspended_does_not_count_as_silence() -> None:
    peer = _Peer()
    peer.look_until(LivenessAction.ASK, 5)
    peer.rule.asked(0)
    assert peer.look(seconds=3600) is LivenessAction.ALIVE
    peer.received += 1
    assert peer.look() is LivenessAction.ALIVE
