"""The listeners of one program, or of one source: each begins and ends by itself, and all share the ceilings.

This is the one place that makes a listener from its URL. `relay receive` and the sources that listen use it.
"""

import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict

from relay.events.own_events import Author
from relay.listener.admission.admission import Admission, ConnectionLimits, Refusal
from relay.listener.datagrams import DatagramListener, DatagramTerms
from relay.listener.listening_socket import Listener, binding, binding_for_datagrams
from relay.listener.reception.listener_counters import ListenerCounters
from relay.listener.reception.stream_terms import StreamTerms
from relay.listener.tcp import StreamListener
from relay.listener.tls import ServerIdentity, TlsListener
from relay.listener.unix_socket import binding_of_path
from relay.system.files.socket_file import SocketFile
from relay.values.address import Address
from relay.values.configuration.listener_url import UNIX, ListenerUrl
from relay.values.configuration.receiver_settings import ListenerSettings
from relay.values.event import Submit

_LIMITS = {
    "connections": "max_connections",
    "per_address": "max_connections_per_address",
    "unauthenticated": "max_unauthenticated",
    "exempt": "exempt_networks",
}


def limits_of(settings: ListenerSettings) -> ConnectionLimits:
    """The ceilings of connections that a table configures."""
    return ConnectionLimits(**{name: getattr(settings, key) for name, key in _LIMITS.items()})


class Listeners:
    """Listeners by URL."""

    def __init__(
        self,
        submit: Submit,
        settings: ListenerSettings,
        author: Callable[[], Author],
        descriptors: int | None = None,
    ) -> None:
        """`descriptors` are those that connections may have; None: no more than their ceiling."""
        self.submit = submit
        self.terms: dict[str, StreamTerms] = {}
        """Of each listener's next streams."""
        self.admission = Admission(limits_of(settings), descriptors)
        self.at_work: dict[str, Listener] = {}
        self.counters: dict[str, ListenerCounters] = {}
        """Of each listener for streams."""
        self._settings = settings
        self._author = author
        self._files: dict[str, SocketFile] = {}

    def counters_of(self, url: str) -> ListenerCounters:
        """The counters of a listener for streams, which begin with the first call."""
        return self.counters.setdefault(url, ListenerCounters())

    async def begin(self, url: ListenerUrl, terms: StreamTerms) -> None:
        """Listen there; a RelayError explains why that fails."""
        await self.add(str(url), self._made(url, terms), terms)
        if url.path:
            self._files[str(url)] = SocketFile(url.path)

    async def begin_tls(self, listen: Address, identity: ServerIdentity, terms: StreamTerms) -> None:
        """Listen for TLS there."""
        url = f"tls://{listen}"
        counters, admission = self.counters_of(url), self.admission
        await self.add(url, TlsListener(listen, identity, self.submit, counters, terms, admission=admission), terms)

    async def add(self, url: str, listener: Listener, terms: StreamTerms) -> None:
        """Begin a listener of another kind."""
        self.terms[url] = terms
        await listener.start()
        self.at_work[url] = listener

    async def end(self, url: str) -> None:
        """End a listener, and every connection of its own."""
        await self.at_work.pop(url).stop()
        if (file := self._files.pop(url, None)) is not None:
            file.remove()

    async def end_all(self) -> None:
        """End every listener, the last one first."""
        for url in reversed(tuple(self.at_work)):
            await self.end(url)
        self.admission.close()

    def exchange(self, settings: ListenerSettings, terms_of: Callable[[str], StreamTerms]) -> None:
        """Use these settings from now on, except for `listen`; streams that are open keep their terms."""
        former, self._settings = self._settings, settings
        self.admission.limits = limits_of(settings)
        for url, listener in self.at_work.items():
            terms = self.terms[url] = terms_of(url)
            if isinstance(listener, StreamListener):
                listener.terms = terms
            elif isinstance(listener, DatagramListener):
                listener.limit(terms.max_message_size)
                if settings.receive_buffer != former.receive_buffer:
                    listener.resize(settings.receive_buffer)
        if settings.socket_mode != former.socket_mode:
            for file in self._files.values():
                file.set_mode(settings.socket_mode)

    def totals(self) -> dict[str, int]:
        """The counters of all listeners together, refused connections by cause, and those broken off for others."""
        total: Counter[str] = Counter(asdict(ListenerCounters()))
        for counters in self.by_url().values():
            total.update(counters)
        refused = {f"refused_{cause.name.lower()}": self.admission.refused[cause] for cause in Refusal}
        return {**total, **refused, "made_room": self.admission.made_room}

    def by_url(self) -> dict[str, dict[str, int]]:
        """The counters of each listener."""
        found = {}
        for url, listener in self.at_work.items():
            match listener:
                case DatagramListener():
                    found[url] = asdict(listener.counters)
                case StreamListener():
                    found[url] = asdict(listener.counters)
                case _:
                    found[url] = asdict(self.counters_of(url))
        return found

    def _made(self, url: ListenerUrl, terms: StreamTerms) -> Listener:
        name, settings = str(url), self._settings
        kind = socket.SOCK_DGRAM if url.is_for_datagrams else socket.SOCK_STREAM
        if url.scheme in UNIX:
            bind = binding_of_path(url.path, kind, settings.socket_mode)
        elif url.is_for_datagrams:
            bind = binding_for_datagrams(url.address)
        else:
            bind = binding(url.address)
        if url.is_for_datagrams:
            limits = DatagramTerms(
                author=self._author,
                receive_buffer=settings.receive_buffer,
                max_message_size=terms.max_message_size,
            )
            return DatagramListener(url, bind, self.submit, limits)
        counters = self.counters_of(name)
        return StreamListener(name, bind, self.submit, counters=counters, terms=terms, admission=self.admission)
