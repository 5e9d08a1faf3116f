"""What can be wrong with data from another party.

ProtocolError
├── MalformedError         the bytes are not what they claim to be
├── TooLargeError          a numbered limit is exceeded
├── BadKeyError            the public key is one that proves nothing
├── BadSignatureError      a trusted key's signature does not match
├── UnknownKeyError        no trusted key signed
├── BadProofError          the hashes do not lead to the root
├── BadBundleError         content does not match the authenticated hashes
├── BadCommitmentError     a body is not the one the log committed to
├── RollbackError          a log became smaller
├── SplitViewError         a log shows two contents for one size
├── NoForkError            evidence shows two checkpoints that can both be true
├── QuorumNotMetError      too few witnesses cosigned a checkpoint
├── ConflictError          a proof starts at a size that is not the known one
├── StaleVersionError      a document is older than one already seen
├── ContradictionError     a node takes back what it said for good
├── BadRecordError         a body is not a record
├── BadSignalError         a value is not a signal of its type
├── UnknownCriticalError   a record demands what the reader does not understand
├── AuthMissingError       a request carries no signature
├── AuthInvalidError       a request's signature does not hold
├── ClockSkewError         a request was signed too early or too late
└── UnsupportedEntryError  the log goes on in a way the reader does not understand

Every constructor takes facts and writes the sentence itself, so callers branch on
types and attributes and never on text. No sentence quotes a hash, a salt or a body,
because sentences reach logs.
"""

from typing import ClassVar, Literal

BundlePart = Literal["entries", "bodies", "tile"]
"""Which of the resources that hold 256 leaves at a time is meant."""


class ProtocolError(Exception):
    """Data that SPEC.md forbids; `code` names the rule on the wire.

    Only subclasses are raised.

    Source: SPEC.md#errors.
    """

    code: ClassVar[str]
    """Heading of the error in SPEC.md#errors; stable across releases."""


class MalformedError(ProtocolError):
    """The bytes are not an encoding of what they claim to be.

    Attributes:
        what: The thing that was expected, for example `checkpoint`.
        reason: The rule that the bytes break.
    """

    code = "malformed"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} is malformed: {reason}")
        self.what = what
        self.reason = reason


class TooLargeError(ProtocolError):
    """A limit of SPEC.md#limits is exceeded.

    Attributes:
        what: The thing that is too large.
        limit: Largest size or number allowed, in the unit of SPEC.md#limits.
    """

    code = "too-large"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"{what} exceeds the limit of {limit}")
        self.what = what
        self.limit = limit


class BadKeyError(ProtocolError):
    """A public key cannot prove anything, or its text is no verifier key.

    Attributes:
        reason: The rule that the key breaks.
    """

    code = "bad-key"

    def __init__(self, reason: str) -> None:
        super().__init__(f"key refused: {reason}")
        self.reason = reason


class BadSignatureError(ProtocolError):
    """A signature by a trusted key does not match the signed bytes.

    Attributes:
        key_name: Name of the key that the signature claims.
        key_id: Its four-byte id in hexadecimal.
    """

    code = "bad-signature"

    def __init__(self, key_name: str, key_id: str) -> None:
        super().__init__(f"signature by key {key_name!r} ({key_id}) does not match")
        self.key_name = key_name
        self.key_id = key_id


class UnknownKeyError(ProtocolError):
    """None of the keys that are trusted for a document signed it.

    Attributes:
        what: The document, for example `checkpoint`.
    """

    code = "unknown-key"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is signed by no trusted key")
        self.what = what


class BadProofError(ProtocolError):
    """The hashes of a proof do not lead to the root they should lead to.

    Attributes:
        reason: What does not fit: the number of hashes, the position or the root.
    """

    code = "bad-proof"

    def __init__(self, reason: str) -> None:
        super().__init__(f"proof refused: {reason}")
        self.reason = reason


class BadBundleError(ProtocolError):
    """Entries, bodies or hashes do not match what the checkpoint authenticates.

    Attributes:
        what: `entries`, `bodies` or `tile`.
        index: Which bundle or tile of its kind (and, for a tile, of its level).
        reason: What does not match, with the level or the leaf where it is known.
    """

    code = "bad-bundle"

    def __init__(self, what: BundlePart, index: int, reason: str) -> None:
        super().__init__(f"{what} {index} refused: {reason}")
        self.what: BundlePart = what
        self.index = index
        self.reason = reason


class BadCommitmentError(ProtocolError):
    """A body and its salt are not those that the log entry commits to.

    Attributes:
        leaf_index: Position of the entry in its log.
    """

    code = "bad-commitment"

    def __init__(self, leaf_index: int) -> None:
        super().__init__(f"body of leaf {leaf_index} does not match its commitment")
        self.leaf_index = leaf_index


class RollbackError(ProtocolError):
    """A log's signed checkpoint is smaller than one already verified.

    Attributes:
        origin: The log.
        known_size: Tree size already verified.
        size: Tree size of the checkpoint that was refused.
    """

    code = "rollback"

    def __init__(self, origin: str, known_size: int, size: int) -> None:
        super().__init__(f"log {origin!r} went back from size {known_size} to {size}")
        self.origin = origin
        self.known_size = known_size
        self.size = size


class SplitViewError(ProtocolError):
    """A log signed two different contents for the same tree size.

    Attributes:
        origin: The log.
        size: Tree size at which the two views differ.
    """

    code = "split-view"

    def __init__(self, origin: str, size: int) -> None:
        super().__init__(f"log {origin!r} shows a second view at size {size}")
        self.origin = origin
        self.size = size


class NoForkError(ProtocolError):
    """Evidence of a fork shows two checkpoints that can both be true.

    Attributes:
        origin: The log.
        older_size: Tree size of the one checkpoint.
        newer_size: Tree size of the other, which extends it.
    """

    code = "no-fork"

    def __init__(self, origin: str, older_size: int, newer_size: int) -> None:
        super().__init__(
            f"log {origin!r} was only appended to, from {older_size} to {newer_size}"
        )
        self.origin = origin
        self.older_size = older_size
        self.newer_size = newer_size


class QuorumNotMetError(ProtocolError):
    """The witnesses that cosigned a checkpoint are not those that a policy asks for.

    Not an accusation: more cosignatures may come.

    Attributes:
        origin: The log.
        tree_size: Size of the checkpoint.
        cosigned: Witnesses of the policy that cosigned it.
        known: Witnesses that the policy names.
    """

    code = "quorum-not-met"

    def __init__(self, origin: str, tree_size: int, cosigned: int, known: int) -> None:
        super().__init__(
            f"{cosigned} of {known} witnesses cosigned log {origin!r} at {tree_size}, "
            "which is no quorum"
        )
        self.origin = origin
        self.tree_size = tree_size
        self.cosigned = cosigned
        self.known = known


class ConflictError(ProtocolError):
    """A consistency proof starts at a size that is not the known one.

    Not an accusation: the sender starts again from `known_size`.

    Attributes:
        known_size: Tree size of the newest checkpoint that is known, 0 for none.
    """

    code = "conflict"

    def __init__(self, known_size: int) -> None:
        super().__init__(f"the newest known checkpoint has size {known_size}")
        self.known_size = known_size


class StaleVersionError(ProtocolError):
    """A versioned document does not follow the one that is already known.

    Attributes:
        what: The document, for example `descriptor`.
        known: Version already seen.
        got: Version of the document that was refused.
    """

    code = "stale-version"

    def __init__(self, what: str, known: int, got: int) -> None:
        super().__init__(f"{what} version {got} does not follow version {known}")
        self.what = what
        self.known = known
        self.got = got


class ContradictionError(ProtocolError):
    """A node's newer statement takes back what an older one said for good.

    Attributes:
        what: The newer statement, for example `list note`.
        reason: What it takes back.
    """

    code = "contradiction"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} contradicts what was said before: {reason}")
        self.what = what
        self.reason = reason


class BadRecordError(ProtocolError):
    """A body is not a record.

    Attributes:
        pointer: RFC 6901 JSON pointer to the offending member, empty for the whole.
        reason: The rule that it breaks.
    """

    code = "bad-record"

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"record is refused at {pointer!r}: {reason}")
        self.pointer = pointer
        self.reason = reason


class BadSignalError(ProtocolError):
    """A value is not a signal of the type it is given as.

    Attributes:
        signal_type: The type, as it was given.
        reason: The rule that the value breaks; never the value.
    """

    code = "bad-signal"

    def __init__(self, signal_type: str, reason: str) -> None:
        super().__init__(f"signal of type {signal_type!r} is refused: {reason}")
        self.signal_type = signal_type
        self.reason = reason


class UnknownCriticalError(ProtocolError):
    """A record names a member as critical that this version does not know.

    Attributes:
        member: Name of the member.
    """

    code = "unknown-critical"

    def __init__(self, member: str) -> None:
        super().__init__(f"record needs the unknown member {member!r}")
        self.member = member


class AuthMissingError(ProtocolError):
    """A request carries no signature of the profile."""

    code = "auth-missing"

    def __init__(self) -> None:
        super().__init__("request is not signed")


class AuthInvalidError(ProtocolError):
    """A request's signature does not hold for the request.

    Attributes:
        reason: The rule of SPEC.md#requests that it breaks.
        is_mismatch: All is right but that the key did not make the signature. Only
            this depends on who the sender is, so a receiver may answer it like a
            sender that it does not know.
    """

    code = "auth-invalid"

    def __init__(self, reason: str, *, is_mismatch: bool = False) -> None:
        super().__init__(f"request signature refused: {reason}")
        self.reason = reason
        self.is_mismatch = is_mismatch


class ClockSkewError(ProtocolError):
    """A request was signed too long ago, or in the future.

    Attributes:
        created: When the request says it was signed, Unix seconds.
        now: The verifier's clock, Unix seconds.
    """

    code = "clock-skew"

    def __init__(self, created: int, now: int) -> None:
        super().__init__(f"request was signed at {created}, the clock here says {now}")
        self.created = created
        self.now = now


class UnsupportedEntryError(ProtocolError):
    """A log goes on with an entry that a reader must understand and does not.

    Attributes:
        leaf_index: Position of the entry; entries before it stay valid.
        kind: Its first byte, 0x80 to 0xff.
    """

    code = "unsupported-entry"

    def __init__(self, leaf_index: int, kind: int) -> None:
        super().__init__(f"leaf {leaf_index} is of the unknown critical kind {kind:#x}")
        self.leaf_index = leaf_index
        self.kind = kind
