"""What `relay run`, `relay receive`, `relay dispatch` and `relay test-connection` are made of."""
