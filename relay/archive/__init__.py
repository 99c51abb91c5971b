"""The receiver's archive: plain files, one an originator and day, in which each event stands exactly once."""
