"""The alarms that are raised now."""

import pytest

from relay.values.alarm import DISK_SPACE_LEFT, SERVER_LOST, SPOOL_FULL, Alarm, AlarmChange, Alarms

FULL = Alarm(SPOOL_FULL, "critical", "no room is left")


def lost(server: str) -> Alarm:
    return Alarm(SERVER_LOST, "major", f"{server} does not answer", about=server)


def test_an_alarm_is_raised_once() -> None:
    alarms = Alarms()
    assert alarms.raise_(FULL, 5) == AlarmChange(FULL, raised=True, since=5, at=5)
    assert alarms.raise_(FULL, 6) is None
    assert [change.alarm for change in alarms.active] == [FULL]
    assert alarms.get(SPOOL_FULL) == FULL


def test_another_text_is_a_change_that_keeps_the_beginning() -> None:
    alarms = Alarms()
    first = alarms.raise_(FULL, 5)
    worse = Alarm(SPOOL_FULL, "critical", "still no room is left")
    change = alarms.raise_(worse, 9)
    assert change == AlarmChange(worse, raised=True, since=5, at=9)
    assert (first is not None and first.begins, change.begins) == (True, False)


def test_it_is_cleared_once_and_keeps_the_time_when_it_was_raised() -> None:
    alarms = Alarms()
    alarms.raise_(FULL, 5)
    assert alarms.clear(SPOOL_FULL, 8) == AlarmChange(FULL, raised=False, since=5, at=8)
    assert alarms.clear(SPOOL_FULL, 9) is None
    assert (alarms.active, alarms.get(SPOOL_FULL)) == ((), None)


def test_two_servers_have_an_alarm_each() -> None:
    alarms = Alarms()
    alarms.raise_(lost("north"), 1)
    alarms.raise_(lost("south"), 2)
    alarms.clear(SERVER_LOST, 3, about="north")
    assert [change.alarm.about for change in alarms.active] == ["south"]


def test_the_oldest_alarm_comes_first() -> None:
    alarms = Alarms()
    alarms.raise_(lost("north"), 1)
    alarms.raise_(FULL, 2)
    alarms.raise_(Alarm(SERVER_LOST, "major", "refuses", about="north"), 3)
    assert [change.since for change in alarms.active] == [1, 2]


def test_raised_alarms_outlive_the_process() -> None:
    alarms = Alarms()
    alarms.raise_(FULL, 5)
    alarms.raise_(lost("nörd \x1b[31m"), 6)
    again = Alarms.decode(alarms.encode(4000))
    assert again.active == alarms.active
    assert again.raise_(FULL, 7) is None


def test_a_slot_holds_the_alarms_that_fit_and_leaves_out_the_youngest() -> None:
    alarms = Alarms()
    for at in range(50):
        alarms.raise_(lost(f"server-{at}"), at)
    data = alarms.encode(1000)
    assert len(data) <= 1000
    kept = Alarms.decode(data).active
    assert 5 < len(kept) < 50
    assert kept == alarms.active[: len(kept)]


@pytest.mark.parametrize("data", [b"", b"\0", b"{}", b'[{"raised":true}]', b'[{"alarm":{"name":"A b"}}]'])
def test_a_slot_that_cannot_be_read_holds_no_alarm(data: bytes) -> None:
    assert Alarms.decode(data).active == ()


@pytest.mark.parametrize("name", ["", "Spool", "spool full", "../etc", "spool-", "spool\n"])
def test_a_name_has_lowercase_letters_and_hyphens_only(name: str) -> None:
    with pytest.raises(ValueError, match="lowercase letters and hyphens only"):
        Alarm(name, "minor", DISK_SPACE_LEFT)
