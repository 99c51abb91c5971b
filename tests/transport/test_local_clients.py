"""Which local program's connection makes room for another; the sockets are real, the users and the clock are not."""

import os
import socket
from collections.abc import Iterator

import pytest

from relay.transport.ssh.forwarding.local_clients import SILENT_FOR, LocalClients
from relay.transport.ssh.forwarding.local_port import users_of

ROOT, MALLORY = 0, 1000


class Programs:
    """Programs of users at ports, connected through socket pairs."""

    def __init__(self, ceiling: int) -> None:
        self.now = 0.0
        self.users: dict[int, int] = {}
        self.clients = LocalClients(ceiling, 7777, users_of=lambda _: self.users, monotonic=lambda: self.now)
        self.pairs: dict[int, tuple[socket.socket, socket.socket]] = {}

    def connect(self, port: int, user: int = ROOT, *, sends: bool = True) -> bool:
        """Whether a program at that port is admitted."""
        self.users[port] = user
        self.pairs[port] = socket.socketpair()
        ours = self.pairs[port][0]
        if not self.clients.admit(ours, port):
            return False
        self.clients.connected(ours)
        if sends:
            self.clients.has_sent(ours)
        return True

    def end_cut(self) -> list[int]:
        """The ports of programs that were cut off, which leave now."""
        cut = []
        for port in list(self.pairs):
            ours, theirs = self.pairs[port]
            theirs.setblocking(False)
            try:
                ended = theirs.recv(1) == b""
            except BlockingIOError:
                ended = False
            if ended:
                cut.append(port)
                self.clients.leave(ours)
                self.close(port)
        return cut

    def close(self, port: int) -> None:
        """Close the sockets of a program."""
        for each in self.pairs.pop(port):
            each.close()


@pytest.fixture
def programs() -> Iterator[Programs]:
    made = Programs(4)
    yield made
    for port in list(made.pairs):
        made.close(port)


def test_the_oldest_that_sent_nothing_makes_room(programs: Programs) -> None:
    assert all(programs.connect(port, sends=port == 1) for port in (1, 2, 3, 4))
    assert not programs.connect(5)
    programs.now += SILENT_FOR
    assert programs.connect(6)
    assert programs.connect(7)
    assert programs.end_cut() == [2, 3]
    assert len(programs.clients) == 4


def test_a_user_with_many_connections_makes_room_for_another_user(programs: Programs) -> None:
    for port in (1, 2, 3, 4):
        programs.now += 1
        assert programs.connect(port, MALLORY)
    assert not programs.connect(5, MALLORY)
    programs.now += 1
    assert programs.connect(6, ROOT)
    assert programs.end_cut() == [1]
    programs.now += 1
    assert programs.connect(7, ROOT)
    assert programs.end_cut() == [2]
    programs.now += 1
    assert not programs.connect(8, ROOT)
    programs.now += 1
    assert not programs.connect(9, MALLORY)


def test_a_program_that_is_connected_and_cut_but_still_blocked_is_not_cut_twice(programs: Programs) -> None:
    assert all(programs.connect(port, sends=False) for port in (1, 2, 3, 4))
    programs.now += SILENT_FOR
    admitted = [programs.connect(port) for port in range(5, 20)]
    assert admitted == [True] * 4 + [False] * 11
    assert programs.end_cut() == [1, 2, 3, 4]


def test_a_server_without_channels_lowers_the_ceiling(programs: Programs) -> None:
    assert programs.connect(1)
    assert programs.connect(2, sends=False)
    programs.now += SILENT_FOR
    programs.users[3] = ROOT
    newcomer, other = socket.socketpair()
    programs.pairs[3] = (newcomer, other)
    assert programs.clients.admit(newcomer, 3)
    assert not programs.clients.replace_one(3, 0.0)  # it was cut, and has not left in time
    assert programs.clients.ceiling == 2
    assert programs.end_cut() == [2]


def test_the_user_of_a_connection_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(listening.getsockname()) as program:
            assert users_of(port) == {program.getsockname()[1]: os.getuid()}
