"""What an SSH server may cost relay: octets (`bounded_packets`, `channel_window`) and messages (`message_budget`)."""
