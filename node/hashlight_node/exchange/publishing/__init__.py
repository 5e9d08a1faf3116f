"""Our own lists: new records, taking them back, new keys, new logs, and recovery."""
