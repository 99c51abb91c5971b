"""Reloading: a changed configuration takes effect in a running program.

`reloader` takes the requests, one at a time. `loaded_configuration` is what a program runs with, `reload_plan` compares
it with the new one, part by part, and `running_sources` exchanges the sources that changed.
"""
