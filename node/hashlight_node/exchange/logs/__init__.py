"""Any log, ours or a copy: how it grows, is signed and proven, and who may see it."""
