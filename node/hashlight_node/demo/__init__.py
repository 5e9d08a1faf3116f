"""Three companies on one machine: what Hashlight does, shown with real parts.

A hotline (`shield.example`) and two platforms (`alpha.example`, `beta.example`)
run as separate processes with their own keys and databases, and speak to each
other only over HTTP. Nothing here has a way into a node that its users lack.
"""

from hashlight_node.demo.story import run_demo

__all__ = ["run_demo"]
