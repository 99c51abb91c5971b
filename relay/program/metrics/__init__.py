"""The figures of a running program for Prometheus, and its health check.

`metrics_server` answers `/metrics` and `/healthz` in a thread with an event loop of its own, so that no scrape delays
the program. Once a second its `monitor` looks at the road: `backlog_index` keeps how much waits, and `progress_watch`
whether events still move. For a scrape, `measurement` collects one value from everything on the program's own event
loop, `metric_table` has a row for each metric, and `exposition` writes them as text.

To add a metric: add a row to `metric_table`, and if needed a field to `Measurement`. `docs/monitoring.md` has the same
table, and a test compares them.
"""
