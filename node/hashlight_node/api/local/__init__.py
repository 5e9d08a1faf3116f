"""The listener for our own company's services: lookups, publishing, operating.

Bearer tokens with scopes, JSON both ways, problem documents (RFC 9457), lists in
pages. `build_local` makes the application; every operation is a value from which its
route and its part of the OpenAPI document are made.
"""

from .application import build_local
from .bearer import generate_secret, hash_secret
from .parts import LocalLimits, LocalParts

__all__ = [
    "LocalLimits",
    "LocalParts",
    "build_local",
    "generate_secret",
    "hash_secret",
]
