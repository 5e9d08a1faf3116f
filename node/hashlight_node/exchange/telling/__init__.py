"""What peers are told of our lists, what they acknowledged, and comparing notes."""
