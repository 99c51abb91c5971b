"""The README's way to see what an archive lacks, word for word but for the folder, on an archive as relay writes it."""

import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from archive.messages import NOON_US, foreign, own

from relay.archive.write import ArchiveWriter

README = Path(__file__).parents[2] / "README.md"


def lacking(archive: Path) -> list[str]:
    """What the commands print."""
    section = README.read_text().partition("## To see that nothing is missing")[2]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    script = block[1].replace("/var/log/relay", str(archive))
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


def keep(archive: Path, messages: Iterable[bytes]) -> None:
    with ArchiveWriter(str(archive), "spool") as writer:
        for message in messages:
            writer.write(message, NOON_US)
        writer.commit(b"1")


WHOLE = (
    *(own(number, text="LF \n and \0") for number in (1, 3, 2, *range(4, 121))),
    own(1, kind="relay"),
    own(2, kind="relay"),
    own(1, run="60"),
    own(2, run="60", part="1/2"),
    own(2, run="60", part="2/2"),
    foreign(7),
    b"<13>1 - h a - - - invalid \xff\xfe UTF-8",
)


def test_an_archive_that_is_whole_lacks_nothing(tmp_path: Path) -> None:
    keep(tmp_path, WHOLE)
    assert lacking(tmp_path) == []


@pytest.mark.parametrize(
    ("taken", "told"),
    [
        (lambda message: b'relaySeq="1" type="audit"' in message and b'"5f"' in message, "5f audit 1-1"),
        (lambda message: message.count(b'relaySeq="9"') or message.count(b'relaySeq="10"'), "5f audit 9-10"),
        (lambda message: b'relayRun="60" relaySeq="1"' in message, "60 audit 1-1"),
    ],
)
def test_what_was_taken_out_is_named_by_run_type_and_numbers(
    tmp_path: Path, taken: Callable[[bytes], object], told: str
) -> None:
    keep(tmp_path, (message for message in WHOLE if not taken(message)))
    assert lacking(tmp_path) == [told]
