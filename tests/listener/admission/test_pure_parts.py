"""The pure parts of admission: sources, penalties, standing, early drop and the order of arrival."""

from ipaddress import ip_network

import pytest

from relay.listener.admission.early_drop import chance_of_drop
from relay.listener.admission.oldest_first import OldestFirst
from relay.listener.admission.penalties import MAXIMUM, MINIMUM, Penalties, SenderFault
from relay.listener.admission.standing import PER_SECOND, REMEMBERED, Standing
from relay.values.address import is_in, source_of

STRANGER = "192.0.2.9"


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("host", "host"),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_network(address: str, source: str) -> None:
    assert source_of(address) == source


def test_an_ipv4_address_over_ipv6_is_in_its_network() -> None:
    assert is_in("::ffff:127.0.0.1", (ip_network("127.0.0.0/8"),))
    assert not is_in("", (ip_network("0.0.0.0/0"),))


class TestPenalties:
    def test_isolated_faults_are_harmless(self) -> None:
        penalties = Penalties()
        for second in range(0, 100_000, 6):
            penalties.add(STRANGER, SenderFault.AUTHENTICATION, float(second))
            assert penalties.refuses(STRANGER, float(second)) is None

    @pytest.mark.parametrize("fault", SenderFault)
    def test_faults_add_up_to_the_minimum_and_then_the_source_is_refused(self, fault: SenderFault) -> None:
        penalties, needed = Penalties(), -int(-MINIMUM // fault.seconds)
        for _ in range(needed - 1):
            penalties.add(STRANGER, fault, 100.0)
        assert penalties.refuses(STRANGER, 100.0) is None
        penalties.add(STRANGER, fault, 100.0)
        assert penalties.refuses(STRANGER, 100.0) is fault
        assert penalties.refuses(STRANGER, 99.9 + needed * fault.seconds) is fault
        assert penalties.refuses(STRANGER, 100.0 + needed * fault.seconds) is None
        assert penalties.refuses("192.0.2.10", 100.0) is None

    def test_a_source_that_fails_again_is_refused_for_twice_the_time_and_never_longer_than_the_maximum(self) -> None:
        penalties, now, lengths = Penalties(), 0.0, []
        for _ in range(8):
            while penalties.refuses(STRANGER, now) is None:
                penalties.add(STRANGER, SenderFault.NO_LOGIN, now)
            begun = now
            while penalties.refuses(STRANGER, now):
                now += 1.0
            lengths.append(now - begun)
        assert lengths == [15, 30, 60, 120, 240, 480, 600, 600]
        now += MAXIMUM + 1
        for _ in range(15):
            assert penalties.refuses(STRANGER, now) is None
            penalties.add(STRANGER, SenderFault.NO_LOGIN, now)
        assert penalties.refuses(STRANGER, now + 14)
        assert penalties.refuses(STRANGER, now + 16) is None

    def test_faults_of_open_connections_prolong_a_penalty_up_to_the_maximum(self) -> None:
        penalties = Penalties()
        for _ in range(1000):
            penalties.add(STRANGER, SenderFault.TIMEOUT, 5.0)
        assert penalties.refuses(STRANGER, 5.0 + MAXIMUM - 1)
        assert penalties.refuses(STRANGER, 5.0 + MAXIMUM) is None

    def test_memory_has_a_ceiling_and_the_oldest_fault_is_forgotten(self) -> None:
        penalties = Penalties(3)
        for last in range(4):
            for _ in range(3):
                penalties.add(f"192.0.2.{last}", SenderFault.AUTHENTICATION, float(last))
        assert len(penalties) == 3
        assert [penalties.refuses(f"192.0.2.{last}", 4.0) is None for last in range(4)] == [True, False, False, False]


class TestStanding:
    def test_a_good_connection_lets_a_limited_number_pass_each_second(self) -> None:
        standing = Standing()
        assert not standing.lets_pass(STRANGER, 5.0)
        standing.begin(STRANGER)
        standing.begin(STRANGER)
        standing.end(STRANGER, 5.0)
        assert [standing.lets_pass(STRANGER, 1e6) for _ in range(PER_SECOND + 2)] == [True] * PER_SECOND + [False] * 2
        assert standing.lets_pass(STRANGER, 1e6 + 1)
        assert not standing.lets_pass("192.0.2.10", 1e6 + 1)

    def test_it_lasts_some_minutes_longer_than_the_last_good_connection(self) -> None:
        standing = Standing()
        standing.begin(STRANGER)
        standing.end(STRANGER, 100.0)
        assert standing.lets_pass(STRANGER, 99.0 + REMEMBERED)
        assert not standing.lets_pass(STRANGER, 100.0 + REMEMBERED)

    def test_memory_has_a_ceiling_and_open_connections_are_not_forgotten(self) -> None:
        standing = Standing(2)
        standing.begin(STRANGER)
        for last in range(10):
            standing.begin(f"198.51.100.{last}")
            standing.end(f"198.51.100.{last}", float(last))
        assert len(standing) == 3
        assert standing.lets_pass(STRANGER, 10.0)
        assert [standing.lets_pass(f"198.51.100.{last}", 10.0) for last in (7, 8, 9)] == [False, True, True]


def test_the_chance_of_an_early_drop_grows_as_sshd_has_it() -> None:
    assert [chance_of_drop(waiting, 100) for waiting in (0, 29)] == [0, 0]
    assert [round(chance_of_drop(waiting, 100), 3) for waiting in (30, 65, 99, 100, 200)] == [0.3, 0.65, 0.99, 1, 1]
    assert [chance_of_drop(waiting, 4) for waiting in (0, 3, 4)] == [0, 0, 1]


def test_the_oldest_is_found_in_all_and_by_source() -> None:
    ordered: OldestFirst[str] = OldestFirst()
    assert ordered.oldest(9.0) is None
    assert ordered.largest_source() == ""
    for at, (item, source) in enumerate([("a", "x"), ("b", "y"), ("c", "y")]):
        ordered.add(item, source, float(at))
    assert ordered.oldest(0.0) == "a"
    assert ordered.oldest(0.5, "y") is None
    assert ordered.oldest(1.0, "y") == "b"
    assert ordered.largest_source() == "y"
    ordered.discard("b", "y")
    ordered.discard("b", "y")
    ordered.discard("a", "x")
    assert ordered.oldest(9.0) == "c"
    assert (len(ordered), ordered.number_of("x"), "c" in ordered) == (1, 0, True)
