"""What an originator's messages and relay's own events prove about missing events. `message_trail` is the entrance."""
