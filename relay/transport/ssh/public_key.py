"""SSH public keys as values: RFC 4253 section 6.6, RFC 5656, RFC 8709.

A key is its type and its blob, the octets of the wire format; people identify it by the SHA-256 of the blob.
Supported: Ed25519, ECDSA with the three NIST curves, RSA from 2048 bits. Any other key is a ValueError with its reason.
"""

import base64
import binascii
import hashlib
from typing import Final, NamedTuple, Self

from relay.values.address import Address
from relay.values.text import decoded, excerpt, quoted

ED25519: Final = "ssh-ed25519"
RSA: Final = "ssh-rsa"
ECDSA: Final = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
TYPES: Final = (ED25519, *ECDSA, RSA)
_LENGTH: Final = 4  # RFC 4251 section 5: a string is its length in four octets and its octets
_ED25519_LENGTH: Final = 32
_SMALLEST_RSA: Final = 2048  # bits
_LARGEST_BLOB: Final = 16384  # octets; an RSA key of 16384 bits has 2071


class PublicKey(NamedTuple):
    """A public key; equal keys are equal values."""

    type: str
    blob: bytes

    @classmethod
    def from_text(cls, key_type: str, encoded: str) -> Self:
        """The key in two fields of a known_hosts or authorized_keys line."""
        if key_type not in TYPES:
            raise ValueError(f"key type {excerpt(key_type)} is not supported")
        try:
            blob = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise ValueError("the key is not base64") from None
        strings = []
        at = 0
        while at < len(blob) <= _LARGEST_BLOB:
            end = at + _LENGTH + int.from_bytes(blob[at : at + _LENGTH], "big")
            strings.append(blob[at + _LENGTH : end])
            at = end
        if at != len(blob) or not strings:
            raise ValueError("the key is damaged")
        name, *numbers = strings
        if name != key_type.encode("ascii"):
            raise ValueError(f"the key has the type {quoted(decoded(name))}, not {key_type}")
        if len(numbers) != (1 if key_type == ED25519 else 2) or not all(numbers):
            raise ValueError("the key is damaged")
        if key_type == ED25519 and len(numbers[0]) != _ED25519_LENGTH:
            raise ValueError("the key is damaged")
        if key_type == RSA and int.from_bytes(numbers[1], "big").bit_length() < _SMALLEST_RSA:
            raise ValueError(f"an RSA key of fewer than {_SMALLEST_RSA} bits is not safe")
        return cls(key_type, blob)

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as OpenSSH writes it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest())
        return "SHA256:" + digest.decode("ascii").rstrip("=")

    @property
    def text(self) -> str:
        """`TYPE BASE64`, as in known_hosts and authorized_keys."""
        return f"{self.type} {base64.b64encode(self.blob).decode('ascii')}"

    def authorized_line(self, destination: tuple[str, int], comment: str = "relay") -> str:
        """The authorized_keys line that allows this key to forward to one address and nothing else."""
        return f'restrict,port-forwarding,permitopen="{Address(*destination)}" {self.text} {comment}'
