"""Real peers for the tests: fetched, unpacked beside the checkout, started per test and never installed."""
