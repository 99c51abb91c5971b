"""When little room is left."""

from hypothesis import given
from hypothesis import strategies as st

from relay.program.watch.disk import DiskSpace, alarm_wanted

MIB = 1024**2


def room(
    *, free: int = 10_000 * MIB, held: int = 0, max_size: int = 2048 * MIB, space_left: int = 100 * MIB
) -> DiskSpace:
    return DiskSpace(free=free, held=held, max_size=max_size, space_left=space_left)


def test_enough_room_is_no_alarm() -> None:
    assert alarm_wanted(room(free=100 * MIB), None) is None


def test_less_free_disk_than_space_left_is_an_alarm_that_says_so() -> None:
    alarm = alarm_wanted(room(free=100 * MIB - 1), None)
    assert alarm is not None
    assert (alarm.name, alarm.severity) == ("disk-space-left", "major")
    assert alarm.text == "less than 100MiB (space-left) is free on the disk of the state directory"


def test_less_than_space_left_in_max_size_is_an_alarm_that_says_so() -> None:
    assert alarm_wanted(room(held=1948 * MIB), None) is None
    alarm = alarm_wanted(room(held=1948 * MIB + 1), None)
    assert alarm is not None
    assert alarm.text == "less than 100MiB is left in the spool's max-size of 2GiB"


def test_it_stays_until_a_tenth_more_is_free() -> None:
    raised = alarm_wanted(room(free=99 * MIB), None)
    assert alarm_wanted(room(free=109 * MIB), raised) == raised
    assert alarm_wanted(room(free=110 * MIB), raised) is None


def test_measured_numbers_do_not_change_the_text() -> None:
    raised = alarm_wanted(room(free=99 * MIB), None)
    assert alarm_wanted(room(free=1), raised) == raised


def test_the_reason_changes_with_what_is_short() -> None:
    on_disk = alarm_wanted(room(free=1), None)
    in_spool = alarm_wanted(room(free=110 * MIB, held=2000 * MIB), on_disk)
    assert in_spool is not None
    assert "max-size" in in_spool.text
    # The disk was enough for a while: a little more than its margin is no alarm of the disk's again.
    assert alarm_wanted(room(free=105 * MIB, held=2000 * MIB), in_spool) == in_spool
    assert alarm_wanted(room(free=105 * MIB, held=0), in_spool) is None


def test_a_small_spool_warns_at_its_last_tenth() -> None:
    assert alarm_wanted(room(held=36 * MIB, max_size=40 * MIB), None) is None
    assert alarm_wanted(room(held=37 * MIB, max_size=40 * MIB), None) is not None


def test_without_space_left_nobody_is_warned() -> None:
    assert alarm_wanted(room(free=0, held=2048 * MIB, space_left=0), None) is None


sizes = st.integers(min_value=0, max_value=1 << 50)


@given(sizes, sizes, sizes, sizes)
def test_an_alarm_that_was_just_raised_is_never_cleared_by_the_same_room(
    free: int, held: int, max_size: int, space_left: int
) -> None:
    same = DiskSpace(free=free, held=held, max_size=max_size, space_left=space_left)
    raised = alarm_wanted(same, None)
    assert alarm_wanted(same, raised) == raised
