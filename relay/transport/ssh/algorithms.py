"""The algorithms that relay negotiates in SSH, as client and as server: nothing with SHA-1, MD5 or CBC. Pure.

AES-GCM comes first. "fips" means only AES in GCM or CTR mode, HMAC-SHA-2, key exchange by ECDH on the NIST curves or
Diffie-Hellman groups 14 and 16 with SHA-2, and ECDSA or RSA keys with SHA-2: no ChaCha20, Curve25519, Ed25519 or
ML-KEM. It selects algorithms; it does not validate a library.

The server offers no Diffie-Hellman group: each exchange by group16 takes it 0.3 s of processor time, and a stranger
needs none to ask for one. Every client that has SHA-2 has ECDH too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.transport.ssh.public_key import ECDSA, RSA, TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithms:
    """The algorithms that may be negotiated, best first."""

    key_exchange: tuple[str, ...]
    ciphers: tuple[str, ...]
    macs: tuple[str, ...]
    key_types: tuple[str, ...]


_SHA2_MACS: Final = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
_AES: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr")
_ECDH: Final = ("ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521")
_GROUPS: Final = ("diffie-hellman-group16-sha512", "diffie-hellman-group14-sha256")
CURVE25519: Final = ("curve25519-sha256", "curve25519-sha256@libssh.org")
"""RFC 8731 section 3: one method by its registered and by its older name; a peer may support only one of them."""
_MLKEM: Final = "mlkem768x25519-sha256"
ALGORITHMS: Final = {
    "default": Algorithms(
        key_exchange=(_MLKEM, *CURVE25519, *_ECDH, *_GROUPS), ciphers=_AES, macs=_SHA2_MACS, key_types=TYPES
    ),
    "fips": Algorithms(
        key_exchange=(*_ECDH, *_GROUPS),
        ciphers=("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr"),
        macs=_SHA2_MACS,
        key_types=(*ECDSA, RSA),
    ),
}
"""What the client offers."""
SERVER: Final = Algorithms(key_exchange=(_MLKEM, *CURVE25519, *_ECDH), ciphers=_AES, macs=_SHA2_MACS, key_types=TYPES)
"""What the receiver's SSH end offers: every client's first choice."""
_SIGNATURES: Final = {RSA: ("rsa-sha2-512", "rsa-sha2-256")}  # RFC 8332; every other type signs under its own name


def signature_algorithms(key_types: Iterable[str]) -> tuple[str, ...]:
    """The algorithms by which keys of these types sign."""
    return tuple(name for key_type in key_types for name in _SIGNATURES.get(key_type, (key_type,)))
