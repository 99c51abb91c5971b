"""Whether events of an originator are missing from an archive, and whether the cause is known. Pure.

relay numbers the events of each run and type from 1, without a hole. `number_trail` collects the numbers that are in
the archive, and `relay_reports` reads what relay reported about itself: openings, heartbeats, gaps. `assessment`
compares both.
"""
