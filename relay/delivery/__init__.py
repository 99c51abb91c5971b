"""Delivery: one thread for each destination reads, sends, proves, moves the cursor, and retries.

`destination` is the thread and `session_loop` its loop, the same for a server and for the archive; `cursor_moves` says
when a cursor moves. The far end is a session: `sessions.drained_stream` proves by draining, `sessions.
acknowledged_stream` by the collector's answers (RELP, auditd), `sessions.unproven_sessions` serves collectors that can
prove nothing, and `sessions.archive_session` writes the receiver's archive. `sessions.server_connector` chooses.
"""
