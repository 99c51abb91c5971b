"""What the housekeeping looks with, and what it does about it.

Looking: `age_rule` (may segments be deleted by age), `certificate_watch`, `filing_watch`, `silence_watch`, and the room
`audit_trail`. Acting: `alarm_command`, `all_users` (messages on terminals and at logins), and `halt_request`, which
asks root by `root_request`.
"""
