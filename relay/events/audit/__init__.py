"""The audit domain: auditd's lines in, events and their messages out. Pure: no clock, no disk, no network."""
