"""scripts/attacks in short: each attack for two seconds on one receiver. Speed is judged by the long form alone."""

from scripts.yardstick.attacker import ATTACKS
from scripts.yardstick.attacks import Limits, run

_SHORT = Limits(delivered=0.2, acceptance=5.0, login=5.0, lines=20, normal=30.0)
"""The machine is busy with other tests, and the attackers share it."""


def test_no_attack_stops_delivery_logins_or_the_log_and_nothing_is_lost() -> None:
    outcomes, lost = run(list(ATTACKS), 2.0, 150.0)
    assert lost == 0
    assert [fault for outcome in outcomes for fault in outcome.faults(_SHORT)] == []
    assert all(outcome.connections for outcome in outcomes)
