"""What the receiver knows of its SSH end; only a receiver that has one imports asyncssh, which takes 6 MB."""

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

from relay.errors import RelayError
from relay.listener.listening_socket import Listener


@dataclass(slots=True, kw_only=True)
class EndpointCounters:
    """An endpoint's counts since it started."""

    connections: int = 0
    refused: int = 0  # connections beyond a ceiling
    logins: int = 0
    channels: int = 0
    refused_channels: int = 0


class SshListener(Listener):
    """Listens for SSH."""

    counters: EndpointCounters

    @abstractmethod
    def refresh(self) -> RelayError | None:
        """The error that prevents every login with the files as they are now. For any thread."""

    @abstractmethod
    def exchange(self, host_key_file: str, authorized_keys_file: str, allowed: Collection[tuple[str, int]]) -> None:
        """Use these settings for later connections; a RelayError leaves the former ones in use."""
