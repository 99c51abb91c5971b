"""Syslog messages and their framings as values: no clock, disk, network, logging or randomness in here."""
