"""The node's secret keys: small files, or keys that live elsewhere.

`keyring` knows them all and `files` how they are written; `agent` asks an ssh-agent to
sign; `identity` and `ceremony` are for an identity key on another machine; `journal`
remembers when each key was published; `documents` signs the descriptor.
"""

from .documents import OwnDescriptor, publish_descriptor, read_published_descriptor
from .errors import (
    IdentityOfflineError,
    KeyExistsError,
    KeyFileError,
    SignerUnavailableError,
)
from .files import KeyAccess, KeyUse, StoredKey, read_passphrase
from .identity import OfflineIdentity
from .keyring import (
    HTTP_KEY_ID,
    Keyring,
    RotatingUse,
    create_keyring,
    http_key_id,
    load_keyring,
)
from .signers import Signers, signers_of

__all__ = [
    "HTTP_KEY_ID",
    "IdentityOfflineError",
    "KeyAccess",
    "KeyExistsError",
    "KeyFileError",
    "KeyUse",
    "Keyring",
    "OfflineIdentity",
    "OwnDescriptor",
    "RotatingUse",
    "SignerUnavailableError",
    "Signers",
    "StoredKey",
    "create_keyring",
    "http_key_id",
    "load_keyring",
    "publish_descriptor",
    "read_passphrase",
    "read_published_descriptor",
    "signers_of",
]
