"""A router's own configuration text: `router_text` reads it, `router_draft` translates it."""
