"""A router's own configuration text: `text` reads it, `translation` makes a draft of ours of it."""
