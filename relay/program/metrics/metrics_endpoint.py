"""The metrics server as the configuration wants it: none, or one on some address."""

from typing import TYPE_CHECKING

from relay.program.road import Road
from relay.values.configuration.settings import MetricsSettings

if TYPE_CHECKING:
    from relay.program.metrics.metrics_server import MetricsServer


class MetricsEndpoint:
    """Begins, exchanges and ends the server of one road."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._server: MetricsServer | None = None

    async def follow(self, settings: MetricsSettings | None) -> None:
        """Listen as `settings` say. When the new address cannot be used, a RelayError; the former one stays."""
        former = self._server
        wanted = settings.listen if settings is not None else None
        if wanted == (former.address if former is not None else None):
            return
        server = None
        if wanted is not None:
            from relay.program.metrics import metrics_server  # noqa: PLC0415  40 ms and 6 MB, see exposition

            server = metrics_server.MetricsServer(wanted, self._road)
            await server.start()
        self._server = server
        if former is not None:
            await former.stop()

    async def end(self) -> None:
        """End the server, if there is one."""
        await self.follow(None)
