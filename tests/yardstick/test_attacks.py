"""scripts/attacks in short: each attack for two seconds, some at once, on one receiver.

Speed is judged by the long form alone.
"""

from scripts.yardstick.attacker import ATTACKS
from scripts.yardstick.attacks import Calm, Limits, Outcome, run, worst_of

_ROUNDS = 6
_SHORT = Limits(delivered=0.2, acceptance=5.0, login=5.0, lines=20, normal=30.0)
"""The machine is busy with other tests, and the attackers share it."""


def test_no_attack_stops_delivery_logins_or_the_log_and_nothing_is_lost() -> None:
    names = list(ATTACKS)
    outcomes, lost = run([names[begin::_ROUNDS] for begin in range(_ROUNDS)], 2.0, 150.0)
    assert lost == 0
    assert [fault for outcome in outcomes for fault in outcome.faults(_SHORT)] == []
    assert all(outcome.connections for outcome in outcomes)


def test_the_worst_of_each_figure_is_shown() -> None:
    calm = Calm(1000, 0.02)
    first = Outcome("idle", 10, calm, 990.0, 0.1, 0.3, 80.0, 2, 0.5)
    second = Outcome("tls", 5, calm, 890.0, 0.05, 2.5, 90.0, 99, 0.4)
    worst = worst_of([first, second])
    assert worst == Outcome("the worst of all", 15, calm, 890.0, 0.1, 2.5, 90.0, 101, 0.5)
    assert [fault.partition(": ")[2] for fault in worst.faults(Limits())] == [
        "delivered 890/s of 1000",
        "login refused for 2.5 s",
        "101 log lines",
    ]
