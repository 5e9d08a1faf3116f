"""Exact search for PDQ hashes within a Hamming distance, live and in memory.

`PdqIndex` misses nothing at any distance (`layout` has the proof), takes changes at
any time, and searches with the compiled kernel where there is one.
"""

from hashlight_node.matching.index.found import Found, Hit
from hashlight_node.matching.index.index import IndexStats, PdqIndex
from hashlight_node.matching.index.kernel import kernel_name

__all__ = ["Found", "Hit", "IndexStats", "PdqIndex", "kernel_name"]
