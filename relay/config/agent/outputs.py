"""An output of the Monitoring Agent as a [[remote-logging-server]] with protocol "syslog".

    [[outputs.syslog]]     address, framing, trailer, TLS → the server; default_sdid → [audit] sd-id;
                           default_facility_code, default_severity_code, default_appname → the sources that go there
Its own filters by the tag `type` become the server's `types`; others are a mistake, since events would go where they
are not to go. What goes out otherwise than by Telegraf is a warning for each key.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from relay.config.agent.inputs import SOURCES
from relay.config.agent.plugin_table import PluginTable
from relay.config.agent.telegraf_filters import FILTERS, OTHER_FILTERS, may_pass_unknown, types_passed, wrong_patterns
from relay.config.key_path import KeyPath
from relay.syslog.priority import FACILITIES, SEVERITIES
from relay.values.address import Address
from relay.values.text import quoted

SERVERS: Final = "remote-logging-server"
_ADDRESS: Final = re.compile(r"(?P<scheme>udp|tcp)[46]?://(?P<address>.*)", re.DOTALL)
_TLS: Final = {"tls_ca": "ca", "tls_cert": "certificate", "tls_key": "private-key", "tls_server_name": "server-name"}
_DEFAULTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "default_facility_code": ("facility", FACILITIES),
    "default_severity_code": ("severity", SEVERITIES),
    "default_appname": ("app-name", ()),
}
"""Keys of an output that are a source's: the key, and the names of its numbers."""
_OTHERWISE: Final[dict[str, tuple[object, str]]] = {
    "sdids": ([], "relay has one SD-ID; a name keeps the one that it begins with"),
    "sdparam_separator": ("_", "relay has `_`"),
    "tls_min_version": ("TLS12", "relay takes TLS 1.2 and newer, the newest that both sides have"),
    "tls_cipher_suites": ([], "relay leaves the choice to OpenSSL"),
}
"""Keys that change what goes out: the value that means what relay does, and what it does."""
_KEYS: Final = frozenset(
    {
        "address",
        "framing",
        "trailer",
        "default_sdid",
        "keep_alive_period",
        "insecure_skip_verify",
        "tls_enable",
        "tls_key_pwd",
        *_TLS,
        *_DEFAULTS,
        *_OTHERWISE,
        *FILTERS,
        *OTHER_FILTERS,
    }
)
_ALWAYS_VERIFIES: Final = (
    'relay always verifies certificates; give tls_ca, or `fingerprint = "sha-256:…"` of the server\'s in a further file'
)
_PLAIN_KEYS: Final = "relay's private keys have no passphrase; `openssl pkey -in KEY -out FILE` takes it off"
_NO_SOCKET: Final = (
    "relay sends to network addresses only; give the local syslog daemon an input on loopback (rsyslog: imtcp), and "
    'name it here, as in "tcp://127.0.0.1:601"'
)
_BY_TYPE_ALONE: Final = (
    "relay chooses for a server by the tag `type` alone, and leaves nothing out of events; filter in the inputs"
)
_NO_UNKNOWN: Final = (
    "an event of a type that relay does not know is not sent there, also where a pattern fits; a type that is named in "
    "full is sent, and with it all that relay does not know"
)


def chosen(plugin: PluginTable) -> frozenset[str]:
    """The event types that its own filters let pass."""
    for key in ("tagpass", "tagdrop"):
        tags = plugin.table.get(key)
        if tags and not (isinstance(tags, dict) and set(tags) == {"type"}):
            plugin.reject(key, _BY_TYPE_ALONE)
        elif tags and (wrong := wrong_patterns(tags["type"])):
            plugin.reject(key, wrong)
    for key in (*OTHER_FILTERS, *(key for key, ours in FILTERS.items() if ours.startswith("field"))):
        if plugin.table.get(key):
            plugin.reject(key, _BY_TYPE_ALONE)
    if may_pass_unknown(plugin.table):
        plugin.warn(_NO_UNKNOWN, key="tagpass")
    return types_passed(plugin.table)


def server(plugin: PluginTable, name: str, types: Sequence[str]) -> None:
    """Add the server, which takes `types`."""
    address = _address(plugin)
    if address is None:
        return
    transport, (host, port) = address
    path: KeyPath = (SERVERS, len(plugin.draft.document.get(SERVERS, ())))
    plugin.put((*path, "name"), name)
    plugin.put((*path, "address"), host, key="address")
    plugin.put((*path, "port"), port, key="address")
    plugin.put((*path, "protocol"), "syslog")
    plugin.put((*path, "transport"), _tls(plugin, path, transport), key="address")
    _framing(plugin, path)
    plugin.put((*path, "types"), list(types), why="it is what the inputs that go there let pass")
    _sd_id(plugin)
    for key, (ours, what) in _OTHERWISE.items():
        if plugin.table.get(key, ours) != ours:
            plugin.warn(what, key=key)
    plugin.name_unknown(_KEYS)


def defaults(plugin: PluginTable, sources: Iterable[int]) -> None:
    """What events go out as that say nothing themselves: in relay the sources' matter, for all servers alike."""
    for key, (ours, names) in _DEFAULTS.items():
        wanted = _default(plugin, key, names) if key in plugin.table else ""
        for index in sources if wanted else ():
            earlier = plugin.draft.document[SOURCES][index].get(ours, wanted)
            if earlier == wanted:
                plugin.put((SOURCES, index, ours), wanted, key=key)
            else:
                plugin.reject(key, f"relay has one {ours} for all servers that get these events: {quoted(earlier)}")


def _default(plugin: PluginTable, key: str, names: Sequence[str]) -> str:
    """A text, or a number's name."""
    if not names:
        return plugin.text(key)
    value = plugin.table[key]
    if type(value) is int and 0 <= value < len(names):
        return names[value]
    plugin.reject(key, f"must be a number from 0 to {len(names) - 1}")
    return ""


def _framing(plugin: PluginTable, path: KeyPath) -> None:
    """Telegraf takes both words in any case, and looks at the trailer in non-transparent framing alone."""
    framing, trailer = plugin.text("framing").lower(), plugin.text("trailer").upper()
    if framing:
        plugin.put((*path, "framing"), framing, key="framing")
    if trailer and framing == "non-transparent":
        plugin.put((*path, "trailer"), trailer, key="trailer")


def _address(plugin: PluginTable) -> tuple[str, Address] | None:
    text = plugin.text("address")
    match = _ADDRESS.fullmatch(text)
    if text.startswith("unix"):
        plugin.reject("address", _NO_SOCKET)
        return None
    if match is None:
        plugin.reject("address", f'must be as "udp://192.0.2.1:514" or "tcp://192.0.2.1:601", not {quoted(text)}')
        return None
    try:
        return match["scheme"], Address.parse(match["address"])
    except ValueError as error:
        plugin.reject("address", str(error))
        return None


def _tls(plugin: PluginTable, path: KeyPath, transport: str) -> str:
    if plugin.table.get("insecure_skip_verify"):
        plugin.reject("insecure_skip_verify", _ALWAYS_VERIFIES)
    if plugin.table.get("tls_key_pwd"):
        plugin.reject("tls_key_pwd", _PLAIN_KEYS)
    given = [key for key in _TLS if plugin.table.get(key)]
    if plugin.table.get("tls_enable", bool(given)) is False:
        return transport
    for key in given:
        plugin.put((*path, _TLS[key]), plugin.text(key), key=key)
    return "tls" if transport == "tcp" else transport


def _sd_id(plugin: PluginTable) -> None:
    if "default_sdid" not in plugin.table:
        return
    wanted = plugin.text("default_sdid")
    earlier = plugin.draft.document.get("audit", {}).get("sd-id", wanted)
    if earlier == wanted:
        plugin.put(("audit", "sd-id"), wanted, key="default_sdid")
    else:
        plugin.reject("default_sdid", f"relay has one SD-ID for all servers, and it is {quoted(earlier)} already")
