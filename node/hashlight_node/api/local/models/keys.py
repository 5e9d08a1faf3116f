"""Keys of this node: listed, replaced, signed elsewhere."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from .wire import ListName, Request, Timestamp

RotatingKey = Literal["http", "witness", "mirror", "log"]


class KeyChoice(Request):
    """Which keys: those of one use."""

    use: RotatingKey
    list: Annotated[ListName | None, Field(description="The list, of `log`.")] = None


class NewKey(KeyChoice):
    """A key that is to replace another."""

    agent: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="Public key `ssh-ed25519 …` of an agent; null makes a key.",
        ),
    ] = None


class SignedDocuments(Request):
    """What came back from the machine with the identity key."""

    signed: Annotated[str, Field(min_length=1, max_length=16 * 1024 * 1024)]


class KeyDetail(TypedDict):
    """A key of this node, without its secret."""

    use: Literal["identity", "http", "witness", "mirror", "log"]
    vkey: Annotated[str, Field(description="Its public half, with its name.")]
    storage: Annotated[
        Literal["plain", "sealed", "agent", "offline"],
        Field(description="Where its private half is."),
    ]
    state: Annotated[
        Literal["signs", "replaced", "waits"],
        Field(
            description="`waits`: for a signature by the identity key, or, as an"
            " identity, on another machine; `replaced`: until `retires_at`."
        ),
    ]
    published_at: Timestamp | None
    retires_at: Timestamp | None


class KeyList(TypedDict):
    """Every key of this node."""

    keys: list[KeyDetail]


class SigningRequest(TypedDict):
    """What has to be signed on the machine with the identity key."""

    request: Annotated[str, Field(description="A text for people and `key sign`.")]
