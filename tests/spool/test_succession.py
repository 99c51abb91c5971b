"""Whose cursor a server continues from, when names or addresses changed."""

import logging
from pathlib import Path

import msgspec
import pytest
from program.history.spools import event, filled, opened

from relay.spool.cursor import Cursor
from relay.spool.losses.gap import LostRange
from relay.spool.store import CURSOR_KEY, Store
from relay.spool.succession import CursorMove, moves

ONE = "syslog 192.0.2.1:22 127.0.0.1:9999"
OTHER = "syslog 192.0.2.2:22 127.0.0.1:9999"
BY_RELP = "relp 192.0.2.1:22 127.0.0.1:9999"


def taken_over(former: str, name: str) -> CursorMove:
    return CursorMove(former, name, aside=False)


class TestMoves:
    def test_nothing_moves_while_names_and_addresses_stay(self) -> None:
        assert moves({"a": ONE, "b": OTHER}, {"a": ONE, "b": OTHER}) == []

    def test_a_renamed_server_keeps_its_cursor(self) -> None:
        assert moves({"a": ONE}, {"b": ONE}) == [taken_over("a", "b")]

    def test_a_cursor_without_a_known_server_is_kept_by_its_name(self) -> None:
        assert moves({"a": "", "archive": ""}, {"a": ONE, "archive": ""}) == []

    def test_a_cursor_without_a_known_server_is_given_to_no_other_name(self) -> None:
        assert moves({"a": ""}, {"b": ONE}) == []

    def test_another_server_under_the_same_name_gets_a_new_cursor_and_the_former_is_put_aside(self) -> None:
        assert moves({"a": ONE}, {"a": OTHER}) == [CursorMove("a", f"a (before: {ONE})", aside=True)]

    def test_a_server_that_returns_continues_from_its_cursor_that_was_put_aside(self) -> None:
        aside = f"a (before: {ONE})"
        assert moves({"a": OTHER, aside: ONE}, {"a": ONE})[1:] == [taken_over(aside, "a")]

    def test_servers_that_swap_their_names_keep_their_cursors(self) -> None:
        found = moves({"a": ONE, "b": OTHER}, {"a": OTHER, "b": ONE})
        assert [(move.former, move.name) for move in found if not move.aside] == [
            (f"b (before: {OTHER})", "a"),
            (f"a (before: {ONE})", "b"),
        ]

    def test_another_protocol_at_the_same_address_keeps_the_cursor_of_its_name_alone(self) -> None:
        assert moves({"a": ONE}, {"a": BY_RELP}) == []
        assert moves({"a": ONE}, {"b": BY_RELP}) == []

    def test_a_second_server_at_the_same_address_does_not_take_the_first_ones_cursor(self) -> None:
        assert moves({"a": ONE}, {"a": ONE, "b": ONE}) == []

    def test_when_several_cursors_match_none_is_used(self) -> None:
        """They may want different events: what one has had, the other has not."""
        assert moves({"a": ONE, "b": ONE}, {"c": ONE}) == []
        assert moves({"a": ONE}, {"b": ONE, "c": ONE}) == []

    def test_one_of_two_servers_at_an_address_may_be_renamed(self) -> None:
        assert moves({"a": ONE, "b": ONE}, {"a": ONE, "c": ONE}) == [taken_over("b", "c")]


def begun(store: Store, name: str, server: str) -> Cursor:
    store.claim({name: server})
    cursor = store.begin(name, Cursor(), ~0, server)
    store.forget_others({name}, 1000)
    return store.follow(name, cursor, ~0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    filled(tmp_path, *([event(str(number))] for number in range(4)))
    return opened(tmp_path)


def test_a_renamed_server_continues_and_keeps_its_gap(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with store:
        first = begun(store, "a", ONE)
        store.move_cursor("a", msgspec.structs.replace(first, retained=3, delivered=6))
        store.losses.lose("a", "lost", [LostRange("0" * 16, 1, 1, 5, 5)], Cursor(retained=4))
        with caplog.at_level(logging.WARNING):
            renamed = begun(store, "b", ONE)
        assert (renamed.retained, renamed.delivered, renamed.server) == (4, 6, ONE)
        assert [(gap.server, gap.events) for gap in store.losses.pending()] == [("b", 5)]
        assert store.cursor("a") is None
    assert f"b continues where a was: the same protocol and final address ({ONE})" in caplog.text


def test_gap_numbers_of_a_name_are_never_used_again(store: Store) -> None:
    """Two events with one server's name and one number would report one gap."""
    with store:
        begun(store, "a", ONE)
        for _ in range(3):
            store.losses.lose("a", "lost", [LostRange("0" * 16, 1, 1, 5, 5)], Cursor())
            store.losses.reported(store.losses.pending()[0])
        begun(store, "b", ONE)
        begun(store, "a", OTHER)
        for name in ("a", "b"):
            store.losses.lose(name, "lost", [LostRange("0" * 16, 1, 1, 5, 5)], Cursor())
        assert {gap.number for gap in store.losses.pending()} == {4}


def test_a_new_server_under_the_same_name_begins_anew_and_the_former_one_may_return(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with store:
        first = begun(store, "127.0.0.1:7777", ONE)
        store.move_cursor("127.0.0.1:7777", msgspec.structs.replace(first, retained=3, delivered=6))
        with caplog.at_level(logging.WARNING):
            new = begun(store, "127.0.0.1:7777", OTHER)
        assert (new.retained, new.delivered, new.server) == (1, 0, OTHER)
        assert begun(store, "127.0.0.1:7777", ONE).retained == 3
        assert begun(store, "logs", OTHER).retained == 1
    assert f"127.0.0.1:7777 is another log server than before ({OTHER})" in caplog.text


def test_a_cursor_of_an_older_version_is_kept_by_name_and_gets_its_server(store: Store) -> None:
    with store:
        store.slots.put(f"{CURSOR_KEY}a", b'{"retained":3,"transient":1,"proof":"drained","delivered":6}')
        assert begun(store, "a", ONE).retained == 3
        assert begun(store, "b", ONE).retained == 3


def test_a_gap_left_under_a_name_does_not_move_a_later_cursor_of_that_name(store: Store) -> None:
    with store:
        begun(store, "b", OTHER)
        store.losses.lose("b", "lost", [LostRange("0" * 16, 1, 1, 5, 5)], Cursor(retained=4))
        store.slots.remove(f"{CURSOR_KEY}b")  # as after a day without that server
        first = begun(store, "a", ONE)
        store.move_cursor("a", msgspec.structs.replace(first, retained=3))
        assert begun(store, "b", ONE).retained == 3
        assert [(gap.server, gap.events) for gap in store.losses.pending()] == [("b", 5)]
