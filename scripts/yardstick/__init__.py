"""The yardstick: relay beside what a user would take in its place, through the same sshd, into the same far end."""
