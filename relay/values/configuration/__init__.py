"""What a configuration holds, as frozen values: legal when they exist.

`settings` is the whole. `source_settings` and `receiver_settings` have their parts; the receiver's tables are
`originator_settings`, `expect_settings` and `retention_settings`. The types of single values are in `setting_types`,
their rules in `setting_rules`; `listener_url` is the largest of them.
"""
