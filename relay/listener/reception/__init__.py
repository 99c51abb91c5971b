"""What `relay.listener.stream` needs: terms, counters, errors, and a folder for the octets of other protocols."""
