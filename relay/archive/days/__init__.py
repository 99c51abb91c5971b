"""Closed days of the archive: how they are compressed, removed and read.

The writer closes a day; `event_times` has the times that its `Closing` gives, and `uncommitted_closings` has those
that may still be cut back. Then a day belongs to `day_keeper`: begin there. It looks with `archive_survey`, decides by
`retention` (pure), and records what it removes with `recorded_removal`. `compressor` is a child process, which
`compressor_process` starts. `vanished_days` remembers days that somebody else deleted. `compressed_log` reads a
compressed log by the offsets of the uncompressed one.
"""
