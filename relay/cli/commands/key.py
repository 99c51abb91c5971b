"""`relay key`: make the key with which relay logs in, and pin the key by which it knows the server.

`generate` writes the private key only, and prints nothing but authorized_keys lines on standard output: usually one,
several when the configuration forwards to several collectors with the same key. FILE is by default the private-key of
the configuration's port-forwarding. Its folder must be there already; run it as the user that relay runs as. With
--json it prints {"schema": "relay.key-generate/1", "file", "type", "fingerprint", "authorized_keys": [LINE…]}.

`trust` pins a key only when a person says yes on a terminal, or when --fingerprint names it. Each key that the server
shows comes from a handshake of its own, so one that is confirmed says nothing for the others. With --json:
    {"schema": "relay.key-trust/1", "server", "known_hosts", "shown": [KEY…], "pinned": [KEY…], "removed": [KEY…]}
    KEY: {"type", "fingerprint"}
shown is what the server has, pinned and removed what this call has changed in the file; already pinned: nothing.
Exit codes: 68, 69, 76 on the way to the server; 77 when nobody confirms, or the server has changed its key.
"""

import json
import os
import shlex
import socket
import sys
import threading
from typing import TYPE_CHECKING

import click

from relay.cli.group import Group
from relay.cli.options import DEFAULT_CONFIG, Options, config_option, options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from relay.errors import RelayError
    from relay.transport.ssh.offered_keys import OfferedKeys
    from relay.transport.ssh.private_key import Kind
    from relay.transport.ssh.public_key import PublicKey
    from relay.values.address import Address
    from relay.values.settings import PortForwarding

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


@click.group(cls=Group)
@config_option
def key() -> None:
    """Make relay's key pair, or pin a server's host key."""


# --- generate ---


@key.command()
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(readable=False))
@click.option(
    "--type",
    "kind",
    type=click.Choice(["ed25519", "ecdsa", "rsa"]),
    help='The kind of key.  [default: ed25519; ecdsa where algorithms = "fips"]',
)
@_json_option
@config_option
@click.pass_context
def generate(context: click.Context, *, file: str | None, kind: "Kind | None", as_json: bool) -> None:
    """Make a key pair, and print the line that the server's authorized_keys needs.

    FILE gets the private key, readable by its owner alone and without a passphrase; a file that exists is never written
    over. Without FILE it is the configuration's private-key. The line allows the key to forward to the configuration's
    remote-host and remote-port, and nothing else.
    """
    from relay.errors import CannotCreateError
    from relay.transport.ssh import private_key

    configured = _forwardings(options(context))
    forwardings = configured or _defaults()
    path = os.path.abspath(file) if file else _the_one([f.private_key for f in forwardings], "private-key", "FILE")
    users = [f for f in forwardings if f.private_key == path] or forwardings
    kind = kind or ("ecdsa" if _algorithms(users) == "fips" else "ed25519")
    if kind == "ed25519" and _algorithms(users) == "fips":
        raise click.UsageError('an Ed25519 key cannot be used with algorithms = "fips"; leave --type out', context)
    try:
        made = private_key.public_key(private_key.generate(path, kind))
    except CannotCreateError as error:
        raise _with_its_line(error, path, users) from error
    lines = _authorized_lines(made, users)
    if as_json:
        facts = {"file": path, "type": made.type, "fingerprint": made.fingerprint, "authorized_keys": lines}
        _print_json("relay.key-generate/1", **facts)
        return
    whose = "".join(f", of {f.username}@{f.server_address}" for f in users if configured)
    click.echo(f"made {path}, {made.type} {made.fingerprint}; for the server's authorized_keys{whose}:", err=True)
    click.echo("\n".join(lines))


def _authorized_lines(made: "PublicKey", users: "Iterable[PortForwarding]") -> list[str]:
    comment = f"relay@{socket.gethostname()}"
    destinations = dict.fromkeys((f.remote_host, f.remote_port) for f in users)
    return [made.authorized_line(destination, comment) for destination in destinations]


def _with_its_line(error: "RelayError", path: str, users: "Iterable[PortForwarding]") -> "RelayError":
    """The same error; when the file holds a key already, with the line that was asked for."""
    from relay.errors import CannotCreateError, RelayError
    from relay.transport.ssh import private_key

    try:
        lines = _authorized_lines(private_key.public_key(private_key.load(path)), users)
    except RelayError:
        return error
    return CannotCreateError(error.what, error.cause, f"name another, or use this one: {'; '.join(lines)}")


# --- trust ---


@key.command()
@click.argument("server", metavar="HOST[:PORT]")
@click.option(
    "--fingerprint",
    "fingerprints",
    multiple=True,
    metavar="SHA256:…",
    help="Pin the key with this fingerprint, without a question; repeatable.",
)
@click.option(
    "--known-hosts",
    metavar="FILE",
    type=click.Path(readable=False),
    help="Pin it here.  [default: the configuration's, whose own default is /etc/relay/known_hosts]",
)
@click.option("--replace", is_flag=True, help="Take away pinned keys that the server no longer has.")
@_json_option
@config_option
@click.pass_context
def trust(
    context: click.Context,
    *,
    server: str,
    fingerprints: tuple[str, ...],
    known_hosts: str | None,
    replace: bool,
    as_json: bool,
) -> None:
    """Fetch a server's host keys, show them, and pin what is confirmed.

    Without PORT it is the configuration's server-port for HOST, or 22. Compare the fingerprint with the one that the
    server's administrator tells you (`ssh-keygen -lf FILE` on its host key), never with one that came over this
    network. Without --fingerprint a terminal is needed, on which each key is asked about.
    """
    from relay.transport.ssh.handshake import fetch_host_keys
    from relay.transport.ssh.known_hosts import KnownHosts
    from relay.transport.ssh.offered_keys import OfferedKeys

    forwardings = _forwardings(options(context))
    address = _address(server, forwardings)
    mine = [f for f in forwardings if (f.server_address.lower(), f.server_port) == address]
    if forwardings and not mine:
        click.echo(f"warning: no port-forwarding of the configuration leads to {address}", err=True)
    files = [f.known_hosts for f in mine or forwardings or _defaults()]
    path = os.path.abspath(known_hosts) if known_hosts else _the_one(files, "known-hosts", "--known-hosts FILE")
    if known_hosts:
        options(context).places["--known-hosts"] = path
    offer = OfferedKeys(
        server=address,
        known_hosts=KnownHosts.read(path),
        shown=fetch_host_keys(*address, threading.Event()),
        algorithms=_algorithms(mine),
    )
    if not as_json:
        _show(offer)
    pinned = offer.candidates(fingerprints, replace=replace)
    if pinned and not fingerprints:
        again = f"key trust {'--replace ' if replace else ''}{shlex.quote(server)}"
        pinned = _confirmed(address, pinned, again)
    if pinned:
        _pin(offer, pinned)
    _tell_pinned(offer, pinned, as_json=as_json)


def _address(text: str, forwardings: "Iterable[PortForwarding]") -> "Address":
    """Read HOST, HOST:PORT, an IPv6 address, [IPv6]:PORT; without a port it is the one that is configured for HOST."""
    from ipaddress import ip_address

    from relay.values.address import Address

    bare = ":" not in text or text.endswith("]")
    try:
        ip_address(text)
        bare = True
    except ValueError:
        pass
    host = text.strip("[]")
    try:
        found = Address.parse(f"[{host}]:{_usual_port(host, forwardings)}" if bare else text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="HOST[:PORT]") from None
    if not found.port:
        raise click.BadParameter("port 0 is no port to connect to", param_hint="HOST[:PORT]")
    return found._replace(host=found.host.lower())


def _usual_port(host: str, forwardings: "Iterable[PortForwarding]") -> int:
    """The server-port of HOST's port-forwardings, where they agree; else SSH's own."""
    from relay.transport.ssh.known_hosts import SSH_PORT

    ports = {f.server_port for f in forwardings if f.server_address.lower() == host.lower()}
    return ports.pop() if len(ports) == 1 else SSH_PORT


def _show(offer: "OfferedKeys") -> None:
    from relay.transport.ssh.offered_keys import listed

    for line in offer.pinned:
        click.echo(f"{offer.server} has {listed([line.key])}, pinned by {offer.known_hosts.path} line {line.line}")
    for new in offer.new:
        click.echo(f"{offer.server} has {listed([new])}, not pinned")


def _confirmed(address: "Address", candidates: "Sequence[PublicKey]", again: str) -> "tuple[PublicKey, ...]":
    """The keys to which a person says yes, at least one; `again` is how it was called."""
    from relay.errors import PermissionRefusedError
    from relay.transport.ssh.offered_keys import listed

    what = f"SSH server {address}"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise PermissionRefusedError(
            what,
            f"nobody is there to confirm its host key: {listed(candidates)}",
            "nothing was pinned: compare it with the server's own, then "
            f"`relay {again} --fingerprint {candidates[0].fingerprint}`",
        )
    try:
        confirmed = tuple(one for one in candidates if click.confirm(f"pin {listed([one])} for {address}?", err=True))
    except click.Abort:
        click.echo(err=True)  # the question's line is still open
        raise PermissionRefusedError(what, "the questions were broken off", "nothing was pinned") from None
    if not confirmed:
        raise PermissionRefusedError(what, "no host key was confirmed", "nothing was pinned")
    return confirmed


def _pin(offer: "OfferedKeys", keys: "Sequence[PublicKey]") -> None:
    from relay.system.disk import Disk
    from relay.transport.ssh.known_hosts import replace_keys

    replace_keys(offer.known_hosts.path, offer.server, offer.stale, keys, Disk())


def _tell_pinned(offer: "OfferedKeys", pinned: "Sequence[PublicKey]", *, as_json: bool) -> None:
    from relay.transport.ssh.offered_keys import listed

    path = offer.known_hosts.path
    removed = [line.key for line in offer.stale] if pinned else []
    if as_json:
        shown = {"shown": _objects(offer.shown), "pinned": _objects(pinned), "removed": _objects(removed)}
        _print_json("relay.key-trust/1", server=str(offer.server), known_hosts=path, **shown)
    else:
        done = f"pinned {listed(pinned)}" if pinned else "already pinned, nothing to do"
        click.echo(f"{path}: {done}{f'; took away {listed(removed)}' if removed else ''}")


def _objects(keys: "Iterable[PublicKey]") -> list[dict[str, str]]:
    return [{"type": one.type, "fingerprint": one.fingerprint} for one in keys]


# --- both ---


def _forwardings(given: Options) -> "tuple[PortForwarding, ...]":
    """The configuration's port-forwardings; none when there is no configuration yet and none is named."""
    from relay.config.configuration import read_settings

    named = given.given_config_paths or os.environ.get("RELAY_CONFIG") or os.path.lexists(DEFAULT_CONFIG)
    return read_settings(given.config_paths, given.choice).port_forwarding if named else ()


def _defaults() -> "tuple[PortForwarding, ...]":
    """What holds while nothing is configured."""
    from relay.values.settings import PortForwarding

    return (PortForwarding(server_address="localhost"),)


def _algorithms(forwardings: "Iterable[PortForwarding]") -> str:
    """The narrower ones, where several hold."""
    return "fips" if any(f.algorithms == "fips" for f in forwardings) else "default"


def _the_one(paths: list[str], setting: str, wanted: str) -> str:
    """The one path that a setting has in all port-forwardings."""
    if len(set(paths)) > 1:
        raise click.UsageError(
            f"the configuration's port-forwardings have several {setting}; name one with {wanted}",
            click.get_current_context(),
        )
    return paths[0]


def _print_json(schema: str, **fields: object) -> None:
    click.echo(json.dumps({"schema": schema, **fields}, ensure_ascii=False))
