"""The receiver's archive: plain files, one for each originator and day; `write` leaves out duplicates."""
