"""Tables of one file that probably should complete a table of another file, and complete none: pure.

A second file adds keys and certificates to what the first one says (relay.config.merge). A wrong port or name there
makes a new table instead. What then is missing is reported as what it is: no table with that port or name exists.
"""

from collections.abc import Iterator
from typing import Any, Final

from pydantic_core import ErrorDetails

from relay.config.lines import KeyPath
from relay.config.merge import LOCAL_END, Merged
from relay.config.sentence import key_path
from relay.quantity import Address, quoted
from relay.settings import OF_TLS, Settings

_FORWARDING: Final = "port-forwarding"
_SERVER: Final = "remote-logging-server"
_ENDS: Final = {_FORWARDING: ("local-address", "local-port"), _SERVER: ("address", "port")}
_MOST_SHOWN: Final = 5
_Finding = tuple[KeyPath, str]


def completes_nothing(merged: Merged, error: ErrorDetails) -> _Finding | None:
    """What is wrong instead of what pydantic found, with its key; None where pydantic is right."""
    match key_path(error):
        case ("port-forwarding", int() as index, "server-address") if error["type"] == "missing":
            remedy = "or give it a server-address to add one more"
        case ("remote-logging-server", int() as index, str() as key) if key in OF_TLS:
            if "transport" in merged.document[_SERVER][index]:
                return None
            remedy = 'or give it `transport = "tls"` to add one more'
        case ("source", int() as index, *_) if error["type"] == "extra_forbidden":
            table = merged.document["source"][index]
            others = _others(merged, "source", index)
            return None if "type" in table or not others else _no_source(table, index, others, "or write its `type`")
        case _:
            return None
    others = _others(merged, str(error["loc"][0]), index)
    return _no_end(merged, str(error["loc"][0]), index, others, remedy) if others or _is_further(merged) else None


def further_tables(settings: Settings, merged: Merged) -> Iterator[_Finding]:
    """What is legal, and adds a server or a source where one was probably to be completed."""
    for index, server in enumerate(settings.remote_logging_server):
        table, others = merged.document[_SERVER][index], _others(merged, _SERVER, index)
        same_host = any(_end(_SERVER, other).host == server.address for other, _ in others)
        unclear = same_host or not {"address", "port"} <= table.keys()
        if others and unclear and not server.name and settings.forwarding_of(server) is None:
            remedy = f"or give it a `name`: it is one more server, {_end(_SERVER, table)}"
            yield _no_end(merged, _SERVER, index, others, remedy)
    for index, source in enumerate(settings.source):
        table, others = merged.document["source"][index], _others(merged, "source", index)
        if others and not {"type", "path"} & table.keys():
            remedy = f"or write its `type`: it is one more source, which follows {source.origin}"
            yield _no_source(table, index, others, remedy)


_Other = tuple[dict[str, Any], str]
"""A table, and where it begins: FILE:LINE."""


def _others(merged: Merged, key: str, index: int) -> list[_Other]:
    """The tables of that key that begin in another file; none for a table that several files complete each other in."""
    if len(merged.files_of((key, index))) > 1:
        return []
    file = merged.place((key, index)).file
    found = ((table, merged.place((key, other))) for other, table in enumerate(merged.document[key]))
    return [
        (table, place.file if place.line is None else f"{place.file}:{place.line}")
        for table, place in found
        if place.file != file
    ]


def _is_further(merged: Merged) -> bool:
    return len({place.file for place in merged.places.values()}) > 1


def _no_end(merged: Merged, key: str, index: int, others: list[_Other], remedy: str) -> _Finding:
    table = merged.document[key][index]
    end = _end(key, table)
    host, port = _ENDS[key]
    path: KeyPath = (key, index, *[name for name in (port, host) if name in table][:1])
    if not others:
        return path, f"no other file has a {key} that this could complete; {remedy.removeprefix('or ')}"
    asked = f"{port} {end.port}"
    if end.host not in {_end(key, other).host for other, _ in others}:
        asked = f"{host} {end.host} and {asked}"
    there = [(str(_end(key, other)), place) for other, place in others]
    return path, f"no {key} in {_files(others)} has {asked}, only {_listed(there)}; correct it, {remedy}"


def _no_source(table: dict[str, Any], index: int, others: list[_Other], remedy: str) -> _Finding:
    there = [(quoted(str(other.get("name", ""))), place) for other, place in others]
    name = quoted(str(table.get("name", "")))
    sentence = f"no source in {_files(others)} has the name {name}, only {_listed(there)}; correct it, {remedy}"
    return ("source", index, *(["name"] if "name" in table else [])), sentence


def _end(key: str, table: dict[str, Any]) -> Address:
    host, port = _ENDS[key]
    return Address(str(table.get(host, LOCAL_END.host)), table.get(port, LOCAL_END.port))  # no value is checked yet


def _files(others: list[_Other]) -> str:
    return " and ".join(dict.fromkeys(place.partition(":")[0] for _, place in others))


def _listed(there: list[tuple[str, str]]) -> str:
    shown = [f"{what} ({place})" for what, place in there[:_MOST_SHOWN]]
    return ", ".join([*shown, *(["and others"] if len(there) > _MOST_SHOWN else [])])
