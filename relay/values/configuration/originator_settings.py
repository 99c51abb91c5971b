"""[[receiver.originator]]: originators' names that belong to proven senders only, and the rules of its values. Pure."""

import base64
import binascii
import hashlib
import re
from ipaddress import ip_network
from typing import Annotated, Final

from pydantic import AfterValidator, ValidationError, model_validator

from relay.values.address import Address
from relay.values.configuration.setting_rules import fingerprint
from relay.values.configuration.setting_types import FilledLine, Patterns, Table, contradiction
from relay.values.text import quoted

PROOFS: Final = ("ssh-keys", "certificates", "networks", "listeners")
_SSH_FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_SSH_KEY: Final = re.compile(r"(?:ssh-|ecdsa-)[a-z0-9-]+ ([A-Za-z0-9+/]+=*)(?: .*)?")
_SSH_BLOB: Final = 19
"""Octets of the shortest key that names its type."""
_ZONE: Final = re.compile(r"local|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]|[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}")
_URL: Final = re.compile(r"(?:[a-z-]+)://.+")


def ssh_key(text: str) -> str:
    """A key's fingerprint, from the fingerprint itself or a line of authorized_keys."""
    if _SSH_FINGERPRINT.fullmatch(text):
        return text
    key = _SSH_KEY.fullmatch(text)
    if key is not None:
        try:
            blob = base64.b64decode(key[1], validate=True)
        except binascii.Error:
            blob = b""
        if len(blob) >= _SSH_BLOB:
            return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")
    raise ValueError(
        f'must be "SHA256:…", as `ssh-keygen -l` prints it, or a public key as in authorized_keys, not {quoted(text)}'
    )


def certificate_name(text: str) -> str:
    """A certificate's fingerprint, or one of its names."""
    if ":" in text:
        return fingerprint(text)
    if " " in text:
        raise ValueError(f"must be a certificate's fingerprint or one of its names, not {quoted(text)}")
    return text


def network(text: str) -> str:
    """A network or an address."""
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError(f'must be a network, as in "192.0.2.0/24", or an address, not {quoted(text)}') from None


def listener(text: str) -> str:
    """A listener's URL; HOST:PORT means tcp."""
    if _URL.fullmatch(text):
        return text
    return f"tcp://{Address.parse(text)}"


def zone(text: str) -> str:
    """A time zone's name or offset, or "local"."""
    if _ZONE.fullmatch(text) is None:
        raise ValueError(f'must be "local", a time zone, as in "Europe/Berlin", or "+01:00", not {quoted(text)}')
    return text


Zone = Annotated[str, AfterValidator(zone)]


class ReceiverOriginator(Table):
    """[[receiver.originator]]: names, and what proves them; one proof is enough."""

    name: Patterns
    """Names or globs."""
    ssh_keys: tuple[Annotated[str, AfterValidator(ssh_key)], ...] = ()
    certificates: tuple[Annotated[FilledLine, AfterValidator(certificate_name)], ...] = ()
    networks: tuple[Annotated[str, AfterValidator(network)], ...] = ()
    listeners: tuple[Annotated[str, AfterValidator(listener)], ...] = ()

    @model_validator(mode="after")
    def _has_a_proof(self) -> "ReceiverOriginator":
        if not (self.ssh_keys or self.certificates or self.networks or self.listeners):
            sentence = f"needs one of {', '.join(PROOFS)}; otherwise no sender could use the name"
            raise ValidationError.from_exception_data("originator", [contradiction(sentence, ("name",), self.name)])
        return self
