"""Tables of one file that probably should complete a table of another file, and match none. Pure.

A second file adds keys and certificates to the tables of the first one (merged_document). With a wrong port or name it
makes a new table instead. What is then missing is reported as what it is: no table with that port or name exists.
"""

from collections.abc import Iterator
from typing import Any, Final

from pydantic_core import ErrorDetails

from relay.config.document.merged_document import LOCAL_END, MergedDocument
from relay.config.key_path import KeyPath
from relay.config.validation_sentence import error_path
from relay.values.address import Address
from relay.values.configuration.settings import OF_TLS, Settings
from relay.values.text import quoted

_FORWARDING: Final = "port-forwarding"
_SERVER: Final = "remote-logging-server"
_ENDS: Final = {_FORWARDING: ("local-address", "local-port"), _SERVER: ("address", "port")}
_MOST_LISTED: Final = 5
_Finding = tuple[KeyPath, str]


def unmatched_table(merged: MergedDocument, error: ErrorDetails) -> _Finding | None:
    """The mistake behind what pydantic reports, with its key; None when pydantic is right."""
    match error_path(error):
        case (("port-forwarding" | "remote-logging-server" | "source") as key, int() as index, *rest):
            table, files = merged.document[key][index], merged.files_of(key)
        case _:
            return None
    if len(files.get(index, ())) != 1 or not _has_several_files(merged):
        return None
    others = _others(merged, key, index, files)
    if (key, *rest) == (_FORWARDING, "server-address") and error["type"] == "missing":
        return _no_end(merged, key, index, others, "or give it a server-address to add another port-forwarding")
    if key == _SERVER and others and any(part in OF_TLS for part in rest) and "transport" not in table:
        return _no_end(merged, key, index, others, 'or give it `transport = "tls"` to add another server')
    if key == "source" and others and error["type"] == "extra_forbidden" and "type" not in table and "name" in table:
        return _no_source(table, index, others, "or write its `type` to add another source")
    return None


def unmatched_tables(settings: Settings, merged: MergedDocument) -> Iterator[_Finding]:
    """Legal tables that add a server or a source where they probably should complete one."""
    if not _has_several_files(merged):
        return
    files = merged.files_of(_SERVER)
    for index, server in enumerate(settings.remote_logging_server):
        table = merged.document[_SERVER][index]
        if server.name or settings.forwarding_of(server) is not None:
            continue
        others = _others(merged, _SERVER, index, files)
        same_host = any(_end(_SERVER, other).host == server.address for other, _ in others)
        unclear = same_host or not {"address", "port"} <= table.keys()
        if others and unclear:
            remedy = f"or give it a `name`: now it adds the server {_end(_SERVER, table)}"
            yield _no_end(merged, _SERVER, index, others, remedy)
    files = merged.files_of("source")
    for index, source in enumerate(settings.source):
        table, others = merged.document["source"][index], _others(merged, "source", index, files)
        if others and not {"type", "path"} & table.keys():
            remedy = f"or write its `type`: now it adds a source that follows {source.origin}"
            yield _no_source(table, index, others, remedy)


_Other = tuple[dict[str, Any], str]
"""A table, and where it begins: FILE:LINE."""


def _others(merged: MergedDocument, key: str, index: int, files: dict[int, set[str]]) -> list[_Other]:
    """The tables of that key that are in other files; none for a table that completes another, or is completed."""
    own = files.get(index, set())
    found = [other for other, there in files.items() if not there & own] if len(own) == 1 else []
    tables = ((merged.document[key][other], merged.locate((key, other)).spot) for other in found)
    return [(table, spot) for table, spot in tables if isinstance(table, dict)]


def _has_several_files(merged: MergedDocument) -> bool:
    return len({location.file for location in merged.locations.values()}) > 1


def _no_end(merged: MergedDocument, key: str, index: int, others: list[_Other], remedy: str) -> _Finding:
    table = merged.document[key][index]
    end = _end(key, table)
    host, port = _ENDS[key]
    path: KeyPath = (key, index, *[name for name in (port, host) if name in table][:1])
    if not others:
        return path, f"no other file has a {key} that this could complete; {remedy.removeprefix('or ')}"
    sought = f"{port} {end.port}"
    if end.host not in {_end(key, other).host for other, _ in others}:
        sought = f"{host} {end.host} and {sought}"
    ends = [(str(_end(key, other)), spot) for other, spot in others]
    return path, f"no {key} in {_files(others)} has {sought}, only {_listed(ends)}; correct it, {remedy}"


def _no_source(table: dict[str, Any], index: int, others: list[_Other], remedy: str) -> _Finding:
    names = [(quoted(str(other.get("name", ""))), spot) for other, spot in others]
    name = quoted(str(table["name"]))
    sentence = f"no source in {_files(others)} has the name {name}, only {_listed(names)}; correct it, {remedy}"
    return ("source", index, "name"), sentence


def _end(key: str, table: dict[str, Any]) -> Address:
    host, port = _ENDS[key]
    # The values are not validated yet.
    return Address(str(table.get(host, LOCAL_END.host)), table.get(port, LOCAL_END.port))


def _files(others: list[_Other]) -> str:
    return " and ".join(dict.fromkeys(spot.partition(":")[0] for _, spot in others))


def _listed(found: list[tuple[str, str]]) -> str:
    listed = [f"{what} ({spot})" for what, spot in found[:_MOST_LISTED]]
    return ", ".join([*listed, *(["and others"] if len(found) > _MOST_LISTED else [])])
