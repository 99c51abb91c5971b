"""The yardstick: relay beside the programs that users would choose instead, through one sshd into one far end."""
