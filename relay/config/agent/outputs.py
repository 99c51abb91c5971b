"""An output of the Monitoring Agent as a [[remote-logging-server]] with protocol "syslog".

    [[outputs.syslog]]     address, framing, trailer, TLS → the server; default_sdid → [audit] sd-id;
                           default_facility_code, default_severity_code, default_appname → the sources of its events
Its own filters by the tag `type` become the server's `types`. Other filters are mistakes, because without them more
events would be sent than intended. Each key with which Telegraf sends something else than relay is a warning.
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
"""Keys of an output that relay has on sources: relay's key, and the names of the numbers."""
_DIFFERENCES: Final[dict[str, tuple[object, str]]] = {
    "sdids": ([], "relay has one SD-ID; names that begin with another one stay as they are"),
    "sdparam_separator": ("_", "relay uses `_`"),
    "tls_min_version": ("TLS12", "relay accepts TLS 1.2 and newer, the newest that both sides have"),
    "tls_cipher_suites": ([], "relay leaves the choice to OpenSSL"),
}
_KEYS: Final = frozenset(
    {
        *("address", "framing", "trailer", "default_sdid", "keep_alive_period"),
        *("insecure_skip_verify", "tls_enable", "tls_key_pwd"),
        *(*_TLS, *_DEFAULTS, *_DIFFERENCES, *FILTERS, *OTHER_FILTERS),
    }
)
_ALWAYS_VERIFIES: Final = (
    'relay always verifies certificates; set tls_ca, or in a further file `fingerprint = "sha-256:…"` of the server\'s'
)
_PLAIN_KEYS: Final = "relay reads private keys without a passphrase; `openssl pkey -in KEY -out FILE` removes it"
_NO_SOCKET: Final = (
    "relay sends to network addresses only; give the local syslog daemon an input on loopback (rsyslog: imtcp), and "
    'name that, as in "tcp://127.0.0.1:601"'
)
_BY_TYPE_ALONE: Final = (
    "relay selects events for a server by the tag `type` alone, and removes nothing from events; filter in the inputs"
)
_NO_UNKNOWN: Final = (
    "relay does not send events of types that it does not know to this output, even where a pattern matches; to send "
    "all of them, name such a type in full"
)


def selected_types(plugin: PluginTable) -> frozenset[str]:
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


def add_server(plugin: PluginTable, name: str, types: Sequence[str]) -> None:
    """Add the server, which gets events of these types."""
    address = _address(plugin)
    if address is None:
        return
    transport, (host, port) = address
    path: KeyPath = (SERVERS, len(plugin.draft.document.get(SERVERS, ())))
    plugin.put((*path, "name"), name)
    plugin.put((*path, "address"), host, key="address")
    plugin.put((*path, "port"), port, key="address")
    plugin.put((*path, "protocol"), "syslog")
    plugin.put((*path, "transport"), _with_tls(plugin, path, transport), key="address")
    # Telegraf accepts both words in any case, and uses the trailer in non-transparent framing alone.
    framing, trailer = plugin.text("framing").lower(), plugin.text("trailer").upper()
    if framing:
        plugin.put((*path, "framing"), framing, key="framing")
    if trailer and framing == "non-transparent":
        plugin.put((*path, "trailer"), trailer, key="trailer")
    plugin.put((*path, "types"), list(types), why="its inputs let them pass")
    if "default_sdid" in plugin.table:
        sd_id = plugin.text("default_sdid")
        earlier = plugin.draft.document.get("audit", {}).get("sd-id", sd_id)
        if earlier == sd_id:
            plugin.put(("audit", "sd-id"), sd_id, key="default_sdid")
        else:
            plugin.reject("default_sdid", f"relay has one SD-ID for all servers, and it is {quoted(earlier)} already")
    plugin.warn_of_differences(_DIFFERENCES)
    plugin.warn_of_unknown(_KEYS)


def set_defaults(plugin: PluginTable, sources: Iterable[int]) -> None:
    """Set the defaults of events without own values. In relay they belong to the sources, for all servers alike."""
    for key, (ours, names) in _DEFAULTS.items():
        if key not in plugin.table:
            continue
        if not names:
            value = plugin.text(key)
        elif type(number := plugin.table[key]) is int and 0 <= number < len(names):
            value = names[number]
        else:
            plugin.reject(key, f"must be a number from 0 to {len(names) - 1}")
            continue
        for index in sources if value else ():
            earlier = plugin.draft.document[SOURCES][index].get(ours, value)
            if earlier == value:
                plugin.put((SOURCES, index, ours), value, key=key)
            else:
                plugin.reject(key, f"relay has one {ours} for all servers that get these events: {quoted(earlier)}")


def _address(plugin: PluginTable) -> tuple[str, Address] | None:
    text = plugin.text("address")
    sentence = f'must be as "udp://192.0.2.1:514" or "tcp://192.0.2.1:601", not {quoted(text)}'
    if match := _ADDRESS.fullmatch(text):
        try:
            return match["scheme"], Address.parse(match["address"])
        except ValueError as error:
            sentence = str(error)
    plugin.reject("address", _NO_SOCKET if text.startswith("unix") else sentence)
    return None


def _with_tls(plugin: PluginTable, path: KeyPath, transport: str) -> str:
    """Add the keys of TLS, and return the transport: "tls" in place of "tcp" when the output enables TLS."""
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
