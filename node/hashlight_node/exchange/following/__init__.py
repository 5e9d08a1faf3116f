"""Lists of peers: where they come from, verifying them, and our copies of them."""
