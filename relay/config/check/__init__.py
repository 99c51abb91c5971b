"""Settings that are legal and still wrong: compared with each other, and with this machine.

A finding is the path of a key and a sentence. A mistake keeps relay from working as configured; a warning can be what
the user wants.
"""
