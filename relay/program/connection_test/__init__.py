"""`relay test-connection`: step by step to each server and back, on the route of `relay run`, beside one that runs.

`connection_test` runs the steps that all servers share; `server_test` has a real delivery session deliver one message
to a server. `report` holds steps, exit codes and results; `this_machine` inspects the state directory and the local
port; `message` is the test message; `sizes` finds the largest message that a collector accepts.

A test disturbs nothing: it has a connection and streams of its own, holds no lock, creates no file, reads nothing from
the spool and moves no cursor. The test message has no identity, so no receiver treats it as an event.
"""
