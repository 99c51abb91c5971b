"""A Monitoring Agent's folder as a draft: config.yaml, and the inputs and outputs that it names.

`config_yaml` recognises and reads the file, `monitoring_agent` translates the folder. `inputs` and `outputs` translate
one `plugin_table` each, and `telegraf_filters` the filters in it.
"""
