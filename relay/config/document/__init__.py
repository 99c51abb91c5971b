"""Configuration files in, drafts out, and the drafts merged into one document.

`file_drafts` recognises each file by its content and makes its `settings_draft`: keys and values with the file and
line of each (`key_lines` has those of TOML, which `config_file` reads). `merged_document` merges them.
`unmatched_tables` explains tables that belong to nothing.
"""
