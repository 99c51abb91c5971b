import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.config import validation_sentence
from relay.config.configuration import read_configuration, read_settings
from relay.config.document.config_file import LARGEST_FILE
from relay.config.planned_keys import PLANNED_KEYS
from relay.errors import ConfigurationError, NoInputError
from relay.syslog.priority import FACILITIES

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file, and return its name as a user in its folder would write it."""
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes, name: str = "relay.toml") -> str:
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


def mistakes(*files: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as wrong:
        read_settings(files)
    assert wrong.value.exit_code == 78
    return wrong.value.mistakes


def test_three_mistakes_are_reported_at_once_with_their_lines_and_keys(write: Write) -> None:
    file = write("""\
[spool]
max-size = "much"

[[remote-logging-server]]
port = 7777

[[remote-logging-server]]
name = "second"
portt = 7778
[[port-forwarding]]
username = "relay"
""")
    assert mistakes(file) == (
        (
            'relay.toml:2: spool.max-size: "much" is not a size; write a number and a unit, '
            'as in "64KiB", "16MiB", "2GiB", "100MB"'
        ),
        "relay.toml:9: remote-logging-server[2].portt: unknown key; did you mean `port`?",
        "relay.toml:10: port-forwarding[1].server-address: is required and missing",
    )


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[relays]", "1: relays: unknown key; did you mean `relay`?"),
        ("max-size = 1", "1: max-size: unknown key; did you mean `spool.max-size`?"),
        ("[spool]\nmax_size = 1", "2: spool.max_size: unknown key; did you mean `max-size`?"),
        ("[spool]\nhalt = 1", "2: spool.halt: unknown key; leave it out"),
        ('[relay]\n"a\\u001bb c" = 1', '2: relay."a\\x1bb c": unknown key; leave it out'),
        ("[audit.traffic]\nenable = 1", "2: audit.traffic.enable: unknown key; did you mean `enabled`?"),
        (
            "audit = {\n  alarm = {}}".replace("\n", ""),
            "1: audit.alarm: alarm events are always forwarded and kept; leave the key out",
        ),
        ("relay = 1", "1: relay: must be one table headed [relay], not 1"),
        ("[[relay]]", "1: relay: must be one table headed [relay], not an array"),
        ("[source]", "1: source: must be tables, each headed [[source]], not a table"),
        ("source = ['a']", '1: source[1]: must be tables, each headed [[source]], not "a"'),
        ("[relay]\nhostname = 1", "2: relay.hostname: must be a text in quotes, not 1"),
        ("[relay]\nnode = 1979-05-27", "2: relay.node: must be a text in quotes, not a date or time"),
        (
            "[[source]]\nname='a'\nstart='first'",
            '3: source[1].start: must be "oldest" or "now", not "first"',
        ),
        (
            "audit.system.enabled = 'yes'",
            '1: audit.system.enabled: must be true or false, not "yes"',
        ),
        (
            "[[remote-logging-server]]\nfacilities = ['audit', 'log']",
            "2: remote-logging-server[1].facilities[2]: must be "
            + ", ".join(f'"{name}"' for name in FACILITIES[:-1])
            + f' or "{FACILITIES[-1]}", not "log"',
        ),
        (
            "[[remote-logging-server]]\nfacilities = 'audit'",
            '2: remote-logging-server[1].facilities: must be an array of texts in brackets, not "audit"',
        ),
        (
            "[[remote-logging-server]]\nfacilities = ['audit', 'audit']",
            "2: remote-logging-server[1].facilities: names audit more than once",
        ),
        (
            "[[remote-logging-server]]\nseverity = 'error'",
            (
                '2: remote-logging-server[1].severity: must be "emerg", "alert", "crit", "err", "warning", "notice", '
                '"info" or "debug", not "error"'
            ),
        ),
        (
            "[[remote-logging-server]]\nfacility = 'audit'",
            "2: remote-logging-server[1].facility: unknown key; did you mean `facilities`?",
        ),
        (
            "[[remote-logging-server]]\ntrailer = 'NUL'",
            (
                '2: remote-logging-server[1].trailer: messages end with "NUL" in `framing = "non-transparent"` only; '
                "set that too, or leave it out"
            ),
        ),
        (
            "[[remote-logging-server]]\nport = '7777'",
            '2: remote-logging-server[1].port: must be a whole number without quotes, not "7777"',
        ),
        (
            "[[remote-logging-server]]\nport = true",
            "2: remote-logging-server[1].port: must be a whole number without quotes, not true",
        ),
        (
            "[[remote-logging-server]]\ntypes = 'log'",
            '2: remote-logging-server[1].types: must be an array of texts in brackets, not "log"',
        ),
        (
            "[[remote-logging-server]]\ntypes = [\n'log',\n'logs',\n]",
            (
                '4: remote-logging-server[1].types[2]: must be "admin", "audit", "alarm", "provisioning", "system", '
                '"security", "traffic" or "log", not "logs"'
            ),
        ),
        (
            "[[source]]\nname = 'a'\n[[source]]\nname = 'a'",
            '4: source[2].name: "a" occurs a second time; every source needs a name of its own',
        ),
        (
            "[[remote-logging-server]]\n[[remote-logging-server]]",
            (
                '2: remote-logging-server[2].name: "127.0.0.1:7777" occurs a second time; '
                "every remote-logging-server needs a name of its own"
            ),
        ),
        (
            "[spool]\nmax-size = '1MiB'",
            "2: spool.max-size: must be at least 64MiB, 4 segments of 16MiB (segment-size), not 1MiB",
        ),
        ("[receiver.ssh]", "1: receiver.ssh.listen: is required and missing"),
        ("a = 1\nb = \n", "2: is not TOML: Invalid value"),
        ("a = 1\na = 2", "2: is not TOML: Cannot overwrite a value"),
        ("\na = [1\n\n", "2: is not TOML: Unclosed array"),
        (b"a = 1\nb = '\xff'", "2: is not UTF-8: byte 11 is 0xff"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_key(write: Write, text: str | bytes, mistake: str) -> None:
    assert mistakes(write(text)) == (f"relay.toml:{mistake}",)


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        (b"", "is empty; start from the sample deploy/relay.toml"),
        (b" \n\n", "is empty; start from the sample deploy/relay.toml"),
        (b"\x7fELF\x02\x01\x01\0\0", "is not a text file: it contains zero bytes"),
        ("[relay]\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"\xfe\xff\0[", "is UTF-16; save it as UTF-8"),
        (
            gzip.compress(b"config\n", mtime=0),
            "is compressed, as a router's `export config` writes it; save the output",
        ),
        (b"a = " + b"[" * 100_000, "is nested too deeply"),
        (b"a = " + b"9" * 5000, "is not TOML: Exceeds the limit"),
    ],
)
def test_a_file_that_cannot_be_a_configuration_is_one_mistake(write: Write, contents: bytes, sentence: str) -> None:
    (mistake,) = mistakes(write(contents))
    assert mistake.startswith(f"relay.toml: {sentence}")


def test_a_file_of_100_mb_is_rejected_without_being_read(write: Write) -> None:
    file = write("")
    os.truncate(file, 100 * 1000**2)  # sparse: reading it whole would show in memory, not on the disk
    (mistake,) = mistakes(file)
    assert mistake.startswith("relay.toml: is larger than 4 MiB, the most that relay reads; ")


def test_a_file_at_the_limit_is_read(write: Write) -> None:
    text = "[relay]\nnode = 'n'\n"
    assert read_settings([write(text + "#" * (LARGEST_FILE - len(text)))]).relay.node == "n"


def test_mistakes_beyond_a_hundred_are_counted(write: Write) -> None:
    found = mistakes(write("".join(f"k{number} = 1\n" for number in range(250))))
    assert len(found) == 101
    assert found[-1] == "and 150 more"


@pytest.mark.parametrize(
    ("file", "cause"),
    [("missing.toml", "there is no such file"), (".", "it is a folder"), ("x" * 300, "File name too long")],
)
def test_a_file_that_cannot_be_read_is_a_no_input_error(write: Write, file: str, cause: str) -> None:
    with pytest.raises(NoInputError, match=cause) as wrong:
        read_settings([write("[relay]"), file])
    assert wrong.value.exit_code == 66
    assert wrong.value.what == file
    assert wrong.value.remedy


@pytest.mark.parametrize("entry", [*sorted(PLANNED_KEYS), "planned", "relay.planned", 'source.type = "planned"'])
def test_planned_keys_have_a_sentence_of_their_own(write: Write, entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignoring them silently would be worse than an error."""
    monkeypatch.setattr(validation_sentence, "PLANNED_KEYS", PLANNED_KEYS | {entry})
    key, _, value = entry.partition(" = ")
    table, _, name = key.rpartition(".")
    header = f"[[{table}]]" if table in {"source", "remote-logging-server"} else f"[{table}]" if table else ""
    named = "name = 'a'" if table == "source" else ""
    (mistake,) = mistakes(write(f"{header}\n{named}\n{name} = {value or 1}"))
    assert mistake.startswith("relay.toml:3: ")
    assert "this version of relay does not have it yet" in mistake


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistakes(write: Write) -> None:
    assert read_settings([write(b"\xef\xbb\xbf[relay]\r\nnode = 'n'\r\n")]).relay.node == "n"
    assert mistakes(write(b"\xef\xbb\xbf[relay]\r\nnod = 'n'\r\n"))[0].startswith("relay.toml:2: relay.nod:")


def test_later_files_complete_and_override_earlier_ones(write: Write) -> None:
    first = write("""\
[relay]
hostname = "one"
node = "n"
[[source]]
name = "a"
[[remote-logging-server]]
types = ["log"]
""")
    second = write(
        """\
relay.hostname = "two"
[spool]
max-size = "1GiB"
[[source]]
name = "b"
""",
        "second.toml",
    )
    settings = read_settings([first, second])
    assert (settings.relay.hostname, settings.relay.node) == ("two", "n")
    assert settings.spool.max_size == 1024**3
    assert [source.name for source in settings.source] == ["a", "b"]
    assert len(settings.remote_logging_server) == 1


def test_an_empty_array_in_a_later_file_removes_all_tables(write: Write) -> None:
    first = write("[[source]]\nname = 'a'")
    assert read_settings([first, write("source = []", "second.toml")]).source == ()


def test_each_mistake_of_several_files_names_its_own_file_and_line(write: Write) -> None:
    """Tables of an array are counted within their file."""
    first = write("[relay]\nhostname = 'a b'\n[[source]]\nname = 'a'\n[[source]]\nname = ''")
    second = write("\n[[source]]\nname = 'c'\nstart = 1\n[relay]\nnode = 1", "second.toml")
    assert mistakes(first, second) == (
        'relay.toml:2: relay.hostname: must be printable ASCII without spaces, not "a b"',
        "relay.toml:6: source[2].name: must not be empty",
        'second.toml:4: source[1].start: must be "oldest" or "now", not 1',
        "second.toml:6: relay.node: must be a text in quotes, not 1",
    )


def test_a_file_that_is_not_toml_hides_no_mistake_of_another(write: Write) -> None:
    broken, wrong = write("a ="), write("[relay]\nnode = 1", "second.toml")
    assert mistakes(broken, wrong) == (
        "relay.toml:1: is not TOML: Invalid value",
        "second.toml:2: relay.node: must be a text in quotes, not 1",
    )


def test_every_key_has_a_location_even_when_no_file_has_it(write: Write) -> None:
    configuration = read_configuration([write("\n[[source]]\nname = 'a'")])
    assert configuration.locate(("source", 0, "name"))[:2] == ("relay.toml", 3)
    assert configuration.locate(("source", 0, "path"))[:2] == ("relay.toml", 2)
    assert configuration.locate(("relay", "node")) == ("relay.toml", None, ("relay", "node"))
