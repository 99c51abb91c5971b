"""`relay test-connection`: step by step to a server and back, as `relay run` would go, beside one that runs.

`trial` goes the way and answers a report; `report` has the steps, their exit codes and results; `this_machine` looks at
the state directory and the local port; `message` is what is sent; `syslog_exchange` and `answered_exchange` hand it
over in each protocol and wait for what proves it, as `exchange` says.

It disturbs nothing: it has a connection and a stream of its own, takes no lock, makes no file, reads nothing from the
spool and moves no cursor. The test message has no identity, so it is never taken for an event.
"""
