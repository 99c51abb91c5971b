"""`relay key`: make the key with which relay logs in, and pin the host key by which it recognises the server.

`generate` writes only the private key, and prints only lines for authorized_keys on stdout: usually one, several when
the configuration forwards to several collectors with the same key. FILE is by default the private-key of the
configuration's port-forwarding. Its folder must exist; run the command as the user that relay runs as. With --json it
prints {"schema": "relay.key-generate/1", "file", "type", "fingerprint", "authorized_keys": [LINE…]}.

`trust` pins a key only when a person says yes on a terminal, or when --fingerprint names it. Each key that the server
presents comes from its own handshake, so confirming one key says nothing about the others. With --json:
    {"schema": "relay.key-trust/1", "server", "known_hosts", "shown": [KEY…], "pinned": [KEY…], "removed": [KEY…]}
    KEY: {"type", "fingerprint"}
"shown" are the server's keys, "pinned" and "removed" what this call has changed in the file; both are empty when the
keys were pinned before.
Exit codes: 68, 69, 76 when the server cannot be reached; 77 when nobody confirms, or the server has changed its key.
"""

import os
import shlex
import socket
import sys
import threading
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

import click

from relay.cli.options import DEFAULT_CONFIG, Options, options, repeatable_option, usual_options
from relay.cli.output import print_json, print_line, report
from relay.config.configuration import read_settings
from relay.errors import CannotCreateError, PermissionRefusedError, RelayError
from relay.system.disk import Disk
from relay.transport.ssh import private_key
from relay.transport.ssh.handshake import fetch_host_keys
from relay.transport.ssh.known_hosts import SSH_PORT, KnownHosts, replace_keys
from relay.transport.ssh.offered_keys import OfferedKeys, listed
from relay.transport.ssh.private_key import Kind
from relay.transport.ssh.public_key import PublicKey
from relay.values.address import Address
from relay.values.configuration.settings import PortForwarding

_DEFAULT_FORWARDINGS = (PortForwarding(server_address="localhost"),)
"""Has the defaults of the keys, for use without a configuration."""


# --- generate ---


@click.command()
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(readable=False))
@click.option(
    "--type",
    "kind",
    type=click.Choice(["ed25519", "ecdsa", "rsa"]),
    help='The kind of key.  [default: ed25519; ecdsa where algorithms = "fips"]',
)
@usual_options
def generate(context: click.Context, *, file: str | None, kind: Kind | None, as_json: bool) -> None:
    """Make a key pair, and print the line that the server's authorized_keys needs.

    FILE gets the private key, readable by its owner alone and without a passphrase; an existing file is never
    overwritten. Without FILE it is the configuration's private-key. The line allows the key to forward to the
    configuration's remote-host and remote-port, and nothing else.
    """
    configured = _forwardings(options(context))
    forwardings = configured or _DEFAULT_FORWARDINGS
    path = os.path.abspath(file) if file else _only_path([f.private_key for f in forwardings], "private-key", "FILE")
    users = [f for f in forwardings if f.private_key == path] or forwardings
    algorithms = _algorithms(users)
    if kind == "ed25519" and algorithms == "fips":
        raise click.UsageError('an Ed25519 key cannot be used with algorithms = "fips"; leave --type out', context)
    try:
        made = private_key.public_key(
            private_key.generate(path, kind or ("ecdsa" if algorithms == "fips" else "ed25519"))
        )
    except CannotCreateError as error:
        try:
            existing = private_key.public_key(private_key.load(path))
        except RelayError:
            raise error from None
        lines = "; ".join(_authorized_lines(existing, users))
        raise CannotCreateError(error.what, error.cause, f"name another, or use this one: {lines}") from error
    lines_made = _authorized_lines(made, users)
    if as_json:
        facts = {"file": path, "type": made.type, "fingerprint": made.fingerprint, "authorized_keys": lines_made}
        print_json("relay.key-generate/1", **facts)
        return
    owners = "".join(f", of {f.username}@{f.server_address}" for f in users if configured)
    report(f"made {path}, {made.type} {made.fingerprint}; for the server's authorized_keys{owners}:", "")
    click.echo("\n".join(lines_made))


def _authorized_lines(key: PublicKey, users: Iterable[PortForwarding]) -> list[str]:
    comment = f"relay@{socket.gethostname()}"
    destinations = dict.fromkeys((f.remote_host, f.remote_port) for f in users)
    return [key.authorized_line(destination, comment) for destination in destinations]


# --- trust ---


@click.command()
@click.argument("server", metavar="HOST[:PORT]")
@repeatable_option("--fingerprint", "fingerprints", "SHA256:…", "Pin the key with this fingerprint without asking")
@click.option(
    "--known-hosts",
    metavar="FILE",
    type=click.Path(readable=False),
    help="Pin it in this file.  [default: the configuration's, whose own default is /etc/relay/known_hosts]",
)
@click.option("--replace", is_flag=True, help="Remove pinned keys that the server no longer has.")
@usual_options
def trust(
    context: click.Context,
    *,
    server: str,
    fingerprints: tuple[str, ...],
    known_hosts: str | None,
    replace: bool,
    as_json: bool,
) -> None:
    """Fetch a server's host keys, show them, and pin those that are confirmed.

    Without PORT it is the configuration's server-port for HOST, or 22. Compare the fingerprint with the one that the
    server's administrator gives you (`ssh-keygen -lf FILE` on its host key), never with one that came over this
    network. Without --fingerprint the command needs a terminal, on which it asks about each key.
    """
    forwardings = _forwardings(options(context))
    address = _address(server, forwardings)
    own = [f for f in forwardings if (f.server_address.lower(), f.server_port) == address]
    if forwardings and not own:
        report(f"no port-forwarding of the configuration leads to {address}", "warning: ")
    files = [f.known_hosts for f in own or forwardings or _DEFAULT_FORWARDINGS]
    path = os.path.abspath(known_hosts) if known_hosts else _only_path(files, "known-hosts", "--known-hosts FILE")
    if known_hosts:
        options(context).paths["--known-hosts"] = path
    offer = OfferedKeys(
        server=address,
        known_hosts=KnownHosts.read(path),
        shown=fetch_host_keys(*address, threading.Event()),
        algorithms=_algorithms(own),
    )
    if not as_json:
        for line in offer.pinned:
            print_line(f"{address} has {listed([line.key])}, pinned by {path} line {line.line}")
        for key in offer.new:
            print_line(f"{address} has {listed([key])}, not pinned")
    pinned = offer.candidates(fingerprints, replace=replace)
    if pinned and not fingerprints:
        again = f"key trust {'--replace ' if replace else ''}{shlex.quote(server)}"
        pinned = _confirmed(address, pinned, again)
    removed = [line.key for line in offer.stale] if pinned else []
    if pinned:
        replace_keys(path, address, offer.stale, pinned, Disk())
    if as_json:
        changes = {"shown": _objects(offer.shown), "pinned": _objects(pinned), "removed": _objects(removed)}
        print_json("relay.key-trust/1", server=str(address), known_hosts=path, **changes)
    else:
        done = f"pinned {listed(pinned)}" if pinned else "already pinned, nothing to do"
        print_line(f"{path}: {done}{f'; removed {listed(removed)}' if removed else ''}")


def _address(text: str, forwardings: Iterable[PortForwarding]) -> Address:
    """Parse HOST, HOST:PORT, an IPv6 address or [IPv6]:PORT; the default port is the one configured for HOST."""
    host = text.strip("[]")
    without_port = ":" not in text or text.endswith("]")
    try:
        ip_address(text)
        without_port = True
    except ValueError:
        pass
    if without_port:
        # The server-port of HOST's port-forwardings where they agree, else SSH's own.
        ports = {f.server_port for f in forwardings if f.server_address.lower() == host.lower()}
        text = f"[{host}]:{ports.pop() if len(ports) == 1 else SSH_PORT}"
    try:
        found = Address.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="HOST[:PORT]") from None
    if not found.port:
        raise click.BadParameter("no server can be reached at port 0", param_hint="HOST[:PORT]")
    return found._replace(host=found.host.lower())


def _confirmed(address: Address, candidates: Sequence[PublicKey], again: str) -> tuple[PublicKey, ...]:
    """The keys to which a person says yes, at least one; `again` is the command as it was typed."""
    what = f"SSH server {address}"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise PermissionRefusedError(
            what,
            f"there is no terminal on which its host key could be confirmed: {listed(candidates)}",
            "nothing was pinned: compare it with the server's own, then "
            f"`relay {again} --fingerprint {candidates[0].fingerprint}`",
        )
    try:
        confirmed = tuple(key for key in candidates if click.confirm(f"pin {listed([key])} for {address}?", err=True))
    except click.Abort:
        click.echo(err=True)  # ends the line of the question
        raise PermissionRefusedError(what, "the questions were interrupted", "nothing was pinned") from None
    if not confirmed:
        raise PermissionRefusedError(what, "no host key was confirmed", "nothing was pinned")
    return confirmed


def _objects(keys: Iterable[PublicKey]) -> list[dict[str, str]]:
    return [{"type": key.type, "fingerprint": key.fingerprint} for key in keys]


# --- Both ---


def _forwardings(given: Options) -> tuple[PortForwarding, ...]:
    """The configuration's port-forwardings; none when no configuration is named and the default one does not exist."""
    if not given.named_config_paths and not os.path.lexists(DEFAULT_CONFIG):
        return ()
    return read_settings(given.config_paths, given.choice).port_forwarding


def _algorithms(forwardings: Iterable[PortForwarding]) -> str:
    """The strictest setting of these."""
    return "fips" if any(f.algorithms == "fips" for f in forwardings) else "default"


def _only_path(paths: list[str], setting: str, argument: str) -> str:
    """The path that a setting has in all port-forwardings; a usage error when they differ."""
    if len(set(paths)) > 1:
        raise click.UsageError(
            f"the configuration's port-forwardings have several {setting}; name one with {argument}",
            click.get_current_context(),
        )
    return paths[0]
