"""Everything that the commands print: lines, errors with their remedies, JSON, and the words that they share."""

import base64
import contextlib
import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import click

from relay.config.mistake import Mistake, MistakesError
from relay.errors import ConfigurationError, RelayError
from relay.values.text import decoded, escaped, printable_json

ERROR_SCHEMA: Final = "relay.error/1"
MICROSECONDS: Final = 1_000_000
"""In a second."""


# --- Lines ---


def print_line(text: str) -> None:
    """One line on stdout; its commands work as printed."""
    click.echo(escaped(RelayError.complete(text)))


def report(text: str, prefix: str = "relay: ") -> None:
    """One line on stderr; its commands work as printed."""
    click.echo(f"{prefix}{escaped(RelayError.complete(text))}", err=True)


def print_error(error: RelayError, *, as_json: bool) -> None:
    """Print a failure on stderr, a wrong configuration as one line for each mistake.

    With `as_json`, also print one object on stdout:

        {"schema": "relay.error/1", "what", "cause", "remedy" ("": none is known), "exit_code", "mistakes": [MISTAKE…]}
        MISTAKE: {"file" (null: none), "line" (null: the file as a whole), "key", "message"}

    "mistakes" is there only when the configuration is wrong (exit code 78). `relay config check --json` alone reports a
    wrong configuration in an object of its own.
    """
    prefix = "" if error.what.split(" ")[0] == "relay" else "relay: "
    with contextlib.suppress(OSError):  # without stderr the exit code still reports the failure
        for line in error.mistakes if isinstance(error, MistakesError) else (str(error),):
            report(line, prefix)
    if not as_json:
        return
    fields: dict[str, Any] = {
        "what": error.what,
        "cause": error.cause,
        "remedy": error.remedy,
        "exit_code": error.exit_code,
    }
    if isinstance(error, MistakesError):
        fields["mistakes"] = mistakes_as_json(error.found)
    elif isinstance(error, ConfigurationError):
        fields["mistakes"] = [
            {"file": None, "line": None, "key": "", "message": sentence} for sentence in error.mistakes
        ]
    print_json(ERROR_SCHEMA, **fields)


def log_warnings(warnings: Iterable[Mistake]) -> None:
    """Log what a configuration's readers warn about."""
    for warning in warnings:
        logging.getLogger("relay").warning("%s", escaped(str(warning)))


# --- JSON ---


def print_json(schema: str, **fields: Any) -> None:  # noqa: ANN401  JSON has values of many types
    """One object on stdout, in ASCII, so that every terminal can show it and every name can be written."""
    click.echo(_json({"schema": schema, **fields}))


def print_json_list(
    schema: str, before: dict[str, Any], name: str, items: Iterable[Any], after: dict[str, Any]
) -> None:
    """One object as by `print_json`, with a list that is not in memory as a whole."""
    click.echo(f"{_json({'schema': schema, **before})[:-1]}, {_json(name)}: [", nl=False)
    separator = ""
    for item in items:
        click.echo(f"{separator}{_json(item)}", nl=False)
        separator = ", "
    click.echo(f"], {_json(after)[1:]}")


def _json(value: object) -> str:
    """In ASCII, without DEL."""
    return printable_json(json.dumps(value).encode("ascii")).decode("ascii")


def mistakes_as_json(mistakes: Iterable[Mistake]) -> list[dict[str, Any]]:
    """Each as {"file", "line" (null: the file as a whole), "key" ("": the same), "message"}."""
    return [
        {
            "file": mistake.location.file,
            "line": mistake.location.line,
            "key": mistake.location.key,
            "message": RelayError.complete(mistake.sentence),
        }
        for mistake in mistakes
    ]


def message_as_json(octets: bytes) -> dict[str, str | None]:
    """The fields "message" and "message_base64": the latter only where the octets are not UTF-8, else null."""
    try:
        return {"message": octets.decode(), "message_base64": None}
    except UnicodeDecodeError:
        return {"message": decoded(octets), "message_base64": base64.b64encode(octets).decode()}


# --- Words ---


def utc(microseconds: int) -> str:
    """Microseconds since the epoch as RFC 3339, in whole seconds."""
    return datetime.fromtimestamp(microseconds // MICROSECONDS, UTC).isoformat().replace("+00:00", "Z")
