"""Audit records: from auditd's log, from its dispatcher and from audisp-remote.

`audit_log` is the source that follows auditd's log. Its `follower` reads one offset forward through the `generations`
that rotation leaves, and `detached_files` that auditd still has open. `folder_watch` wakes it. `log_position` is what
the spool stores of it, by a `log_offset`; `unreported_losses` is what it could not read.

`audit_dispatcher` and `auditd_remote` are the two other sources, and `kernel_lost` counts what no daemon ever saw.
"""
