"""Audit records: from auditd's log, from its dispatcher and from audisp-remote."""
