"""The Hashlight node: publishes, follows, looks up and withdraws.

`cli` is the way in for people, `app` puts the parts together, and every other
module says in its first line what it is for. The wire protocol itself is in
`hashlight_protocol`, which needs none of this.
"""

__version__ = "0.1.0"
