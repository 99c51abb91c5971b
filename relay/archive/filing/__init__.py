"""Whose message it is, and in which folder it is filed. Pure.

`filing_policy` decides for each message; begin there. `bound_names` has the names that belong to proven senders only.
`originator` makes a safe folder's name of any name.
"""
