"""The programs `relay run`, `relay receive`, `relay dispatch` and `relay test-connection`."""
