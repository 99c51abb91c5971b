"""Sessions with one destination: each protocol sends messages and proves their delivery.

How to add a protocol:

1. Octets and values, without I/O: a module in `relay.syslog`.
2. If the far end acknowledges each message in order: a `Speaker` (`speaker`; `relp_speaker` is an example), which
   `acknowledged_stream` drives. Otherwise: a `DeliverySession` (`delivery_session`) of its own.
3. The value of `protocol` in `RemoteLoggingServer` (`relay.values.configuration.settings`), explained in
   `deploy/relay.toml`.
4. A case in `ServerConnector.session` (`server_connector`). `relay test-connection` then tests it as well.
"""
