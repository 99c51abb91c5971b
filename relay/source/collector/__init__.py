"""SSR events: from a collector that relay starts."""
