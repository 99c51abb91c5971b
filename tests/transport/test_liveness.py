"""The rule that tells a dead peer from a slow one, with a clock of the test's own."""

from relay.transport.ssh.liveness import Liveness, LivenessAction, LivenessSample, LivenessTimeouts

_PATIENCE = LivenessTimeouts(quiet=4, answer=8)


class _Peer:
    """Looks every half second; counts change as a test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.received = 0
        self.acknowledged = 0
        self.rule = Liveness(_PATIENCE, self._sight())

    def _sight(self) -> LivenessSample:
        return LivenessSample(now=self.now, received=self.received, acknowledged=self.acknowledged)

    def look(self, seconds: float = 0.5) -> LivenessAction:
        self.now += seconds
        return self.rule.look(self._sight())

    def look_until(self, verdict: LivenessAction, limit: float) -> float:
        while self.look() is not verdict:
            assert self.now < limit, f"no {verdict} within {limit} s"
        return self.now


def test_a_peer_that_talks_is_never_asked() -> None:
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


def test_a_frozen_process_is_dead_although_its_kernel_goes_on_acknowledging() -> None:
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


def test_a_request_behind_data_on_a_slow_link_is_waited_for_as_long_as_the_data_moves() -> None:
    peer = _Peer()
    peer.look_until(LivenessAction.ASK, 5)
    peer.rule.asked(100_000)
    for _ in range(80):
        peer.acknowledged += 1000
        assert peer.look() is LivenessAction.ALIVE
    peer.received += 1
    assert peer.look() is LivenessAction.ALIVE


def test_a_request_that_could_not_even_be_handed_over_does_not_delay_the_verdict() -> None:
    """The peer is frozen and the socket full: the request blocks, so `asked` is never called."""
    peer = _Peer()
    peer.look_until(LivenessAction.ASK, 5)
    assert peer.look_until(LivenessAction.DEAD, 15) == 12


def test_time_in_which_relay_itself_was_suspended_is_not_the_peers_silence() -> None:
    peer = _Peer()
    peer.look_until(LivenessAction.ASK, 5)
    peer.rule.asked(0)
    assert peer.look(seconds=3600) is LivenessAction.ALIVE
    peer.received += 1
    assert peer.look() is LivenessAction.ALIVE
