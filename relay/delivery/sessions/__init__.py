"""Sessions with one destination: each protocol sends messages and proves their delivery."""
