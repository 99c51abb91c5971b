"""Configuration files in, `Settings` out; every mistake at once, with its file, line and key.

How a file becomes settings (`configuration.read_configuration`):

    1. `document.file_drafts` recognises what each file is, by its content, and makes a draft of it:
         TOML                                       `document.config_file`
         the text of a router's configuration       `router.router_draft`
         a Monitoring Agent's config.yaml           `agent.config_yaml`
       A draft holds TOML keys and values, and the file and line of each.
    2. `document.merged_document` merges the drafts into one document.
    3. `relay.values.configuration.settings` validates the document. What it rejects becomes a sentence
       (`validation_sentence`, `document.unmatched_tables`) with its location (`mistake`).
    4. `check` compares the settings with each other and with this machine.

Where a key of the configuration is added:

    - `relay/values/configuration/`: a field in the class of its table (`settings.py`, `receiver_settings.py`), with a
      type of `setting_types.py` and its default. The key is the field's name with `-` for `_`. This alone
      makes the key legal, shows it in `relay config show`, and suggests it for misspelt keys.
    - `deploy/relay.toml`: the key with its default and its meaning. tests/config/test_sample_configuration.py compares
      this sample with the settings.
    - `router/router_draft.py` or `agent/`, when a router or a Monitoring Agent has a counterpart.
    - `check/`, when a legal value can still be wrong on this machine.
A key that is planned for a later version is in `planned_keys.py`: relay rejects it with a sentence of its own.
"""
