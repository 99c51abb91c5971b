import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.values.quantity import Address, duration_text, octets, rounded_size, seconds, size_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10ms", 0.01),
        ("0s", 0.0),
        ("90s", 90.0),
        ("1.5s", 1.5),
        ("15m", 900.0),
        ("24h", 86_400.0),
        ("180d", 15_552_000.0),
        ("2 h", 7200.0),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "10", "ms", "-1s", "1w", "1e3s", "10 ms ", "1.5ms", "٣s", "1s\n", "1,5s"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'is no duration; write a number and a unit, as in "10ms"'):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8192", 8192),
        ("0B", 0),
        ("64KiB", 65_536),
        ("100MiB", 104_857_600),
        ("2GiB", 2_147_483_648),
        ("1TiB", 1_099_511_627_776),
        ("100MB", 100_000_000),
        ("5KB", 5000),
        ("1.5MiB", 1_572_864),
    ],
)
def test_a_size_is_read_as_bytes(text: str, value: int) -> None:
    assert octets(text) == value


@pytest.mark.parametrize("text", ["", "MiB", "16 mib", "16Mib", "1.3B", "-1MiB", "1MiB MiB", "0x10", "9" * 16])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'is no size; write a number and a unit, as in "64KiB"'):
        octets(text)


@given(st.integers(min_value=0, max_value=10**14))
def test_a_size_that_is_written_reads_back_to_the_same_bytes(value: int) -> None:
    assert octets(size_text(value)) == value


@given(st.integers(min_value=0, max_value=10**12))
def test_a_duration_that_is_written_reads_back_to_the_same_milliseconds(milliseconds: int) -> None:
    assert seconds(duration_text(milliseconds / 1000)) == milliseconds / 1000


def test_quantities_are_written_in_their_largest_whole_unit() -> None:
    assert [duration_text(value) for value in (0, 0.01, 90, 900, 86_400)] == ["0s", "10ms", "90s", "15m", "1d"]
    assert [size_text(value) for value in (0, 480, 8192, 2**31)] == ["0B", "480B", "8KiB", "2GiB"]


def test_a_size_for_a_reader_is_never_a_rounded_zero() -> None:
    sizes = {
        0: "0 B",
        999: "999 B",
        1000: "1.0 KB",
        49_000: "49.0 KB",
        2_340_000: "2.3 MB",
        5 * 10**9: "5.0 GB",
        10**15: "1000.0 TB",
    }
    assert [rounded_size(value) for value in sizes] == list(sizes.values())


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9999", "127.0.0.1", 9999),
        ("[::1]:22", "::1", 22),
        ("[fe80::1%eth0]:22", "fe80::1%eth0", 22),
        ("log_server.example.:0", "log_server.example.", 0),
    ],
)
def test_an_address_is_a_host_and_a_port_and_reads_back(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == (host, port)
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:65536", "::1:22", "[]:1", "a b:1", "[host]1", "h:1:2"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        Address.parse(text)
