"""Outbound HTTP: the one place from which this node calls others.

Everything a peer sends is hostile until `hashlight_protocol` has accepted it.
"""
