"""Whose message it is, and in which folder it is filed. Pure.

`filing_policy` decides for each message; begin there. `claimed_name` is the name that it begins with, and `bound_names`
has the names that belong to proven senders only. `new_originators` limits how many a sender may begin.
`originator` makes a safe folder's name of any name.
"""
