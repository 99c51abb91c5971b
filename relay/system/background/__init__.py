"""Work beside the event loop: calls that may never return, and threads and tasks that a bug must not end unseen."""
