"""What peers are answered: our lists, copies of others', cosignatures, and uploads."""
