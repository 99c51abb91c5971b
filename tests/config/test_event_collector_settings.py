"""The keys of a source of type event-collector: legal values, and the sentences for mistakes."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.rights import WITHOUT_ROOTS_RIGHTS

from relay.config.check.check import check
from relay.config.configuration import read_configuration, read_settings
from relay.config.mistake import MistakesError
from relay.config.toml_text import settings_document, toml_text
from relay.values.configuration.source_settings import EventCollectorSource

EVENTS = "[[source]]\nname = 'a'\ntype = 'event-collector'\n"
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_(text: str) -> str:
        file = tmp_path / "relay.toml"
        file.write_text(text)
        return str(file)

    return write_


def source_of(file: str) -> EventCollectorSource:
    (source,) = read_settings([file]).source
    assert isinstance(source, EventCollectorSource)
    return source


@pytest.mark.parametrize(
    ("keys", "index"),
    [
        ("command = ['/bin/a', '--index-file', '/i']", "/i"),
        ("command = ['/bin/a', '--index-file=/i']", "/i"),
        ("command = ['/bin/a', '--index-file', '/i']\nindex-file = '/j'", "/j"),
        ("command = ['/bin/a', '--index-file']", ""),
        ("command = ['/bin/a']", ""),
    ],
)
def test_the_index_file_is_named_or_found_in_the_command(write: Write, keys: str, index: str) -> None:
    assert source_of(write(EVENTS + keys)).index == index


def test_the_environment_is_read_and_shown(write: Write) -> None:
    file = write(f"{EVENTS}command = ['/bin/a']\nenvironment = ['A=b=c', 'B=']")
    assert source_of(file).environment == ("A=b=c", "B=")
    assert source_of(write(toml_text(settings_document(read_settings([file]))))) == source_of(file)


def test_tags_are_read_and_shown(write: Write) -> None:
    file = write(f"{EVENTS}command = ['/bin/a']\n[source.tags]\nsite = 'berlin'\n'the rack' = 'r7'\n")
    assert source_of(file).tags == {"site": "berlin", "the rack": "r7"}
    assert source_of(write(toml_text(settings_document(read_settings([file]))))) == source_of(file)
    assert "[source.tags]" in toml_text(settings_document(read_settings([write(f"{EVENTS}command = ['/bin/a']")])))


@pytest.mark.parametrize(
    ("tags", "mistake"),
    [
        ("site = 7", "source[1].tags.site: must be a text in quotes, not 7"),
        ("site = ''", "source[1].tags.site: must not be empty"),
        ('site = "a\\nb"', r'source[1].tags.site: must be one line without control characters, not "a\nb"'),
        ("'' = 'a'", "must not be empty"),
    ],
)
def test_a_tag_needs_a_name_and_a_value(write: Write, tags: str, mistake: str) -> None:
    with pytest.raises(MistakesError) as wrong:
        read_settings([write(f"{EVENTS}command = ['/bin/a']\n[source.tags]\n{tags}\n")])
    assert wrong.value.mistakes[0].endswith(mistake)


def test_filters_are_read_and_shown(write: Write) -> None:
    file = write(f"{EVENTS}command = ['/bin/a']\ntagpass = {{ type = ['alarm', 'ad*'] }}\nfielddrop = ['x?']")
    source = source_of(file)
    assert source.tagpass == {"type": ("alarm", "ad*")}
    assert (source.tagdrop, source.fieldpass, source.fielddrop) == (None, None, ("x?",))
    assert source_of(write(toml_text(settings_document(read_settings([file]))))) == source


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (EVENTS, "1: source[1].command: is required and missing"),
        (
            EVENTS + "command = ['/a']\nseverity = 'error'",
            (
                '5: source[1].severity: must be "emerg", "alert", "crit", "err", "warning", "notice", "info" or '
                '"debug", not "error"'
            ),
        ),
        (
            EVENTS + "command = ['/a']\napp-name = 'a b'",
            '5: source[1].app-name: must be 1 to 48 characters of printable ASCII without spaces, not "a b"',
        ),
        (
            EVENTS + "command = ['/a']\napp-name = ''",
            '5: source[1].app-name: must be 1 to 48 characters of printable ASCII without spaces, not ""',
        ),
        (EVENTS + "command = 'a'", '4: source[1].command: must be an array of texts in brackets, not "a"'),
        (
            EVENTS + "command = []",
            '4: source[1].command: must name a program and its arguments, as in ["/usr/bin/eventCollector128t"]',
        ),
        (EVENTS + "command = ['a']", '4: source[1].command: must be an absolute path, not "a"'),
        (EVENTS + "command = ['/a', \"b\\u0000\"]", '4: source[1].command: must not contain zero bytes: "b\\x00"'),
        (
            EVENTS + "command = ['/a']\nenvironment = ['A=b', 'SECRET']",
            '5: source[1].environment: must be as in ["NAME=value"]; "SECRET" has no name or no value',
        ),
        (
            EVENTS + "command = ['/a']\nenvironment = ['=secret']",
            '5: source[1].environment: must be as in ["NAME=value"]; "" has no name or no value',
        ),
        (
            EVENTS + "command = ['/a']\nenvironment = [\"A=\\u0000\"]",
            '5: source[1].environment: must not contain zero bytes: "A"',
        ),
        (EVENTS + "command = ['/a']\nindex-file = 'i'", '5: source[1].index-file: must be an absolute path, not "i"'),
        (EVENTS + "command = ['/a']\nfieldpass = []", "5: source[1].fieldpass: must name at least one"),
        (
            EVENTS + "command = ['/a']\ntagpass = { type = ['a*['] }",
            '5: source[1].tagpass.type: "a*[" is not a pattern: "[" needs characters and a "]" behind it',
        ),
        (
            EVENTS + "command = ['/a']\ntagpass = { type = 'alarm' }",
            '5: source[1].tagpass.type: must be an array of texts in brackets, not "alarm"',
        ),
        (EVENTS + "command = ['/a']\ntagpass = 1", "5: source[1].tagpass: must be a table, not 1"),
        (
            EVENTS + "command = ['/a']\npath = '/b'",
            '5: source[1].path: only a source of type "audit-log" has this key, not "event-collector"; leave it out',
        ),
        (EVENTS + "command = ['/a']\ntag-pass = 1", "5: source[1].tag-pass: unknown key; did you mean `tagpass`?"),
        (
            "[[source]]\nname = 'a'\ncommand = ['/a']",
            '3: source[1].command: only a source of type "event-collector" has this key, not "audit-log"; leave it out',
        ),
    ],
)
def test_a_mistake_has_its_key_and_line(write: Write, text: str, mistake: str) -> None:
    with pytest.raises(MistakesError) as rejected:
        read_settings([write(text)])
    (sentence,) = rejected.value.mistakes
    assert sentence.partition("relay.toml:")[2] == mistake


@pytest.mark.parametrize("type_", ["'audit'", "5", "['audit-log']", "{}"])
def test_the_mistake_of_an_unknown_type_lists_the_known_types(write: Write, type_: str) -> None:
    with pytest.raises(MistakesError) as rejected:
        read_settings([write(f"[[source]]\nname = 'a'\ntype = {type_}")])
    (sentence,) = rejected.value.mistakes
    assert ':3: source[1].type: must be "audit-log", ' in sentence
    assert '"event-collector"' in sentence


def test_the_check_finds_a_missing_program(write: Write, tmp_path: Path) -> None:
    program = tmp_path / "program"
    file = write(
        f"{EVENTS}command = ['{program}']\n[[remote-logging-server]]\n[[port-forwarding]]\nserver-address = 'h'"
    )

    def sentences() -> list[str]:
        return [
            mistake.sentence
            for mistake in check(read_configuration([file])).mistakes
            if mistake.location.key == "source[1].command"
        ]

    assert sentences() == [f"{program} does not exist"]
    program.touch(0o644)
    program.chmod(0o644)
    assert sentences() == [f"this user is not allowed to run {program}; run this check as the user that relay runs as"]
    program.chmod(0o755)
    assert sentences() == []


def test_the_check_finds_an_index_file_that_relay_cannot_write(write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    index = folder / "events.index"
    file = write(f"{EVENTS}command = ['/bin/sh', '--index-file', '{index}']")

    def index_sentences() -> list[str]:
        run = "from relay.cli.commands import config_group; config_group()"
        command = [*WITHOUT_ROOTS_RIGHTS, sys.executable, "-c", run, "check", "-c", file]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return re.findall(r"source\[1\]\.index-file: (.*); run this check as the user that relay runs as", done.stderr)

    assert index_sentences() == []
    folder.mkdir(0o755)
    assert index_sentences() == []
    folder.chmod(0o555)
    assert index_sentences() == [f"this user is not allowed to create {index} in its folder"]
    folder.chmod(0o755)
    index.touch(0o444)
    assert index_sentences() == [f"this user is not allowed to read and write {index}"]
    index.chmod(0o644)
    assert index_sentences() == []
