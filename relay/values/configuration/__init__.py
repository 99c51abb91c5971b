"""What a configuration holds, as frozen values. `settings` is the whole, `setting_types` has single values."""
