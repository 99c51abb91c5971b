"""The event history, read from a spool or from an archive, whether or not a process is writing it.

A history is read forward: `History.events` continues from where the last call ended to the present end, so calling it
again follows the history. `newest` returns the last few events instead, and then also continues at the present end.
What cannot be read is reported in between, as `UnreadableStretch`.

`event_filter` has the conditions, `past_event` what comes out, `spool_history` and `archive_history` the two histories.
`reading_position` is how far an archive was read, and `bookmark` the file that keeps this for the next process.
"""
