"""Running a node as processes: alone, or with workers that answer lookups beside it.

    supervisor ── node      federation, jobs, the writer; local API on a unix socket
               ├─ worker 1  lookups; passes everything else on to the node
               └─ worker N  listens on the same port as worker 1

The supervisor fills memory once and forks, so that all share it. It opens no database
while it has children, and a database that it opened before is closed by then.
"""

from .supervisor import serve

__all__ = ["serve"]
