"""A Monitoring Agent's folder as a draft: config.yaml, and the inputs and outputs that it names."""
