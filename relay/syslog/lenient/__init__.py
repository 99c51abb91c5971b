"""Reading messages of any form: who sent it, when, how severe, by which program. Pure, and it never raises.

Begin with `reader`: `read` gives everything, `glance` only what the archive needs for every message. Both try the forms
in this order; the first one that matches wins:

1. `strict`: RFC 5424 as the standard has it. One regular expression, because most messages end here.
2. `near_5424`: a version and a time stamp, but a rule of RFC 5424 is broken. What is legal is parsed.
3. `devices`: forms that one maker's devices write: Cisco, FortiGate, UniFi, Snare.
4. `bsd`: RFC 3164 and its relatives: a time stamp, perhaps a host, perhaps a tag.

`time_stamps` reads every spelling of a time and infers the year and the zone from the time of receipt.
`reading` has the values. To add a form: a vector in `tests/harness/sender_forms.py`, then a branch in one of these
modules.

A wrong guess is worse than none. A word is a host only where the form makes it one; else the archive files the message
by what is known about its sender.
"""
