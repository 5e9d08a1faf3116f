"""What local services ask: what is known, since when, by whom, and what to do."""
