"""The operator's settings, read once from one TOML file.

Everything has a default except who the node is, an unknown key stops the node, and
every number has its unit in its name. Paths are relative to the file. The
environment variable `HASHLIGHT_<SECTION>_<KEY>` wins over the file, so that a
container can be configured without one being written for it. Only `app` and the
command line import this module; everybody else is given values.

`deploy/hashlight.example.toml` explains every key; a test holds the two together.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from hashlight_protocol import is_node_name

from .model import Handling, OpinionFold

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

_ENVIRONMENT_PREFIX: Final = "HASHLIGHT_"
_HOST: Final = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]")
_SHARED_AT: Final = re.compile(r"[a-zA-Z0-9.:-]{1,40}")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MAX_PORT: Final = 65_535


class SettingsError(Exception):
    """The settings do not describe a node that may start.

    Attributes:
        path: The file they were read from.
        problems: One sentence each, naming the key.
    """

    def __init__(self, path: Path, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))
        self.path = path
        self.problems = problems


def split_address(listen: str) -> tuple[str, int]:
    """Take `HOST:PORT` apart; an IPv6 host comes in brackets.

    Raises:
        ValueError: It is something else.
    """
    host, colon, port = listen.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not (colon and bare and port.isascii() and port.isdecimal()):
        message = f"{listen!r} is not HOST:PORT"
        raise ValueError(message)
    if int(port) > _MAX_PORT or (":" in bare) is (bare == host):
        message = f"{listen!r} is not HOST:PORT"
        raise ValueError(message)
    return bare, int(port)


def _address(value: str) -> str:
    split_address(value)
    return value


def _node_name(value: str) -> str:
    if not is_node_name(value):
        message = "is not a node name, which is a DNS name in lower case"
        raise ValueError(message)
    return value


def _base(value: str) -> str:
    parts = urlsplit(value)
    if value != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in (
        "http",
        "https",
    ):
        message = "must be https://HOST or https://HOST:PORT, and nothing more"
        raise ValueError(message)
    _check_host(parts)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        message = "may be plain http only on loopback: peers refuse it otherwise"
        raise ValueError(message)
    return value


def _check_host(parts: SplitResult) -> None:
    host = parts.netloc
    if parts.port is not None:  # raises ValueError itself when out of range
        host = host.removesuffix(f":{parts.port}")
    if _HOST.fullmatch(host) is None:
        message = "has a host that is no DNS name in lower case and no address"
        raise ValueError(message)
    if parts.port == _DEFAULT_PORTS[parts.scheme]:
        # Requests are signed over the authority, which leaves a default port out.
        message = "must leave out the port, because it is the scheme's default"
        raise ValueError(message)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


Address = Annotated[str, AfterValidator(_address)]
"""`HOST:PORT` to listen on; port 0 lets the system choose one (tests)."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NodeSettings(_Section):
    """Who the node is; peers pin the name together with the identity key."""

    name: Annotated[str, AfterValidator(_node_name)]
    base: Annotated[str, AfterValidator(_base)]

    @property
    def authority(self) -> str:
        """What peers must have signed as `@authority`; never taken from a request."""
        return urlsplit(self.base).netloc

    @property
    def is_loopback(self) -> bool:
        """Whether the whole federation lives on this machine, as in the demo."""
        return _is_loopback(urlsplit(self.base).hostname or "")


class FederationSettings(_Section):
    """The listener that peers reach, through a TLS proxy unless on loopback."""

    listen: Address = "127.0.0.1:8440"
    static_directory: str = ""


class LocalSettings(_Section):
    """The listener for our own services; never reachable from outside."""

    listen: Address = "127.0.0.1:8441"
    allow_remote: bool = False
    request_bytes: int = Field(default=8_388_608, ge=65_536, le=268_435_456)
    image_bytes: int = Field(default=33_554_432, ge=65_536, le=268_435_456)
    workers: int = Field(default=0, ge=0, le=64)

    @model_validator(mode="after")
    def _stay_on_loopback(self) -> Self:
        host, _ = split_address(self.listen)
        if not (self.allow_remote or _is_loopback(host)):
            message = "listen is not a loopback address and allow_remote is false"
            raise ValueError(message)
        return self


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password or "password" in parse_qs(parts.query):
        message = (
            "has a password, but settings hold no secret: name a password file instead,"
            " as in postgresql://user@host/name?passfile=/path"
        )
        raise ValueError(message)
    return url


class StoreSettings(_Section):
    """Where everything but the keys is kept."""

    url: Annotated[str, AfterValidator(_without_password)] = "sqlite:///hashlight.db"
    directory: Path = Field(default=Path(), strict=False)
    shared_at: str = ""

    @model_validator(mode="after")
    def _share_what_can_be_shared(self) -> Self:
        if not self.shared_at:
            return self
        if not self.url.startswith(("postgresql:", "postgres:")):
            message = "shared_at needs a database of PostgreSQL"
            raise ValueError(message)
        if _SHARED_AT.fullmatch(self.shared_at) is None:
            message = "shared_at must be a host, at most 40 characters, without a port"
            raise ValueError(message)
        return self


class DiskSettings(_Section):
    """How much room the disk must have; see `exchange.room`."""

    warn_mib: int = Field(default=2048, ge=0, le=1_073_741_824)
    stop_mib: int = Field(default=512, ge=0, le=1_073_741_824)

    @model_validator(mode="after")
    def _warn_before_it_is_too_late(self) -> Self:
        if self.warn_mib < self.stop_mib:
            message = "warn_mib must not be smaller than stop_mib"
            raise ValueError(message)
        return self


class RetentionSettings(_Section):
    """What is forgotten after how long; 0: never."""

    expired_days: int = Field(default=0, ge=0, le=36_500)
    sightings_days: int = Field(default=0, ge=0, le=36_500)
    audit_days: int = Field(default=1095, ge=0, le=36_500)


class KeySettings(_Section):
    """Where the secret keys are kept; back them up apart from the store.

    And what they signed last, which is never backed up: see `last_signed.py`.
    """

    directory: Path = Field(default=Path("keys"), strict=False)
    passphrase_file: str = ""
    agent_socket: str = ""
    overlap_days: int = Field(default=30, ge=30, le=3650)
    last_signed: Path = Field(default=Path("last-signed"), strict=False)


class ExchangeSettings(_Section):
    """How the node behaves towards its peers."""

    sweep_seconds: int = Field(default=300, ge=1, le=86_400)
    heartbeat_seconds: int = Field(default=3600, ge=60, le=86_400)
    request_timeout_seconds: int = Field(default=30, ge=1, le=600)
    allow_private_addresses: bool = False
    quorum: str = ""
    upload_to: tuple[Annotated[str, AfterValidator(_node_name)], ...] = Field(
        default=(), strict=False
    )
    deliveries_days: int = Field(default=400, ge=1, le=36_500)
    warn_after_hours: int = Field(default=24, ge=1, le=87_600)
    relay_until_hours: int = Field(default=168, ge=1, le=87_600)
    serve_until_hours: int = Field(default=720, ge=1, le=87_600)
    withdrawal_alert_hours: int = Field(default=24, ge=1, le=87_600)

    @model_validator(mode="after")
    def _warn_before_it_is_too_late(self) -> Self:
        hours = (self.warn_after_hours, self.relay_until_hours, self.serve_until_hours)
        if list(hours) != sorted(hours):
            message = (
                "warn_after_hours, relay_until_hours and serve_until_hours must not "
                "become smaller in this order"
            )
            raise ValueError(message)
        return self


class MatchingSettings(_Section):
    """What counts as a match."""

    pdq_threshold: int = Field(default=31, ge=0, le=64)
    thresholds: dict[str, Annotated[int, Field(ge=0, le=64)]] = {}
    snapshot_seconds: int = Field(default=3600, ge=0, le=604_800)
    changes_days: int = Field(default=7, ge=1, le=3650)
    log_matches: bool = False
    match_log_days: int = Field(default=365, ge=1, le=36_500)


class PolicyRule(_Section):
    """Conditions that must all hold, and what to do then; the first rule wins."""

    list: str | None = None
    label: str | None = None
    review: Literal["none", "automated", "human"] | None = None
    opinion: OpinionFold | None = Field(default=None, strict=False)
    match: Literal["exact", "near"] | None = None
    handling: Handling = Field(strict=False)


class PolicySettings(_Section):
    """What local services are told to do with a match."""

    default: Handling = Field(default=Handling.REVIEW, strict=False)
    flood_matches: int = Field(default=1000, ge=0, le=1_000_000_000)
    flood_seconds: int = Field(default=3600, ge=1, le=604_800)
    rules: tuple[PolicyRule, ...] = Field(default=(), strict=False)


class LoggingSettings(_Section):
    """What is written to standard error, one JSON object a line."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    requests: bool = False


class Settings(_Section):
    """Everything that an operator decides."""

    node: NodeSettings
    federation: FederationSettings = FederationSettings()
    local: LocalSettings = LocalSettings()
    store: StoreSettings = StoreSettings()
    disk: DiskSettings = DiskSettings()
    retention: RetentionSettings = RetentionSettings()
    keys: KeySettings = KeySettings()
    exchange: ExchangeSettings = ExchangeSettings()
    matching: MatchingSettings = MatchingSettings()
    policy: PolicySettings = PolicySettings()
    logging: LoggingSettings = LoggingSettings()

    @model_validator(mode="after")
    def _log_matches_where_all_are_seen(self) -> Self:
        if self.store.shared_at and self.matching.log_matches:
            message = "matching.log_matches does not go with store.shared_at yet"
            raise ValueError(message)
        return self

    @model_validator(mode="before")
    @classmethod
    def _listen_where_the_base_says(cls, data: object) -> object:
        """On loopback the base is where we listen, unless the file says otherwise."""
        if not isinstance(data, dict):
            return data
        base = _dig(data, "node", "base")
        federation = data.get("federation", {})
        if not (isinstance(base, str) and isinstance(federation, dict)):
            return data
        parts = urlsplit(base)
        if parts.scheme != "http" or "listen" in federation:
            return data
        netloc = parts.netloc if parts.port else f"{parts.netloc}:80"
        return {**data, "federation": {**federation, "listen": netloc}}


def _dig(data: dict[str, object], section: str, key: str) -> object:
    table = data.get(section)
    return table.get(key) if isinstance(table, dict) else None


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings; relative paths become absolute.

    Args:
        path: The TOML file.
        environment: Wins over the file; by default the process's.

    Raises:
        SettingsError: The file cannot be read, or a key is unknown, missing or
            out of its range. Every such key is named.
    """
    try:
        data: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(path, (error.strerror or "cannot be read",)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(path, (f"is not TOML: {error}",)) from error
    _override(path, data, os.environ if environment is None else environment)
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        problems = tuple(_sentence(detail) for detail in error.errors())
        raise SettingsError(path, problems) from error
    return _resolve(settings, path.absolute().parent)


def _override(
    path: Path, data: dict[str, object], environment: Mapping[str, str]
) -> None:
    for section, field in Settings.model_fields.items():
        prefix = f"{_ENVIRONMENT_PREFIX}{section.upper()}_"
        model = field.annotation
        for variable in sorted(environment):
            if not variable.startswith(prefix):
                continue
            key = variable.removeprefix(prefix).lower()
            table = data.setdefault(section, {})
            if not isinstance(table, dict):
                raise SettingsError(path, (f"{section}: must be a table",))
            table[key] = _environment_value(model, key, environment[variable])


def _environment_value(model: object, key: str, text: str) -> object:
    """Read text as the key's type; what does not parse is left for validation."""
    fields = getattr(model, "model_fields", {})
    if key not in fields or fields[key].annotation in (str, Path):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _sentence(detail: ErrorDetails) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{where}: there is no such setting"
    if detail["type"] == "missing":
        return f"{where}: this setting has no default and must be given"
    return f"{where}: {detail['msg'].removeprefix('Value error, ')}"


def _resolve(settings: Settings, directory: Path) -> Settings:
    keys = settings.keys
    paths: dict[str, object] = {
        name: str(directory / path) if path else path
        for name, path in (
            ("passphrase_file", keys.passphrase_file),
            ("agent_socket", keys.agent_socket),
        )
    }
    paths["directory"] = directory / keys.directory
    paths["last_signed"] = directory / keys.last_signed
    keys = keys.model_copy(update=paths)
    store = StoreSettings(
        url=_absolute_url(settings.store.url, directory),
        directory=directory / settings.store.directory,
        shared_at=settings.store.shared_at,
    )
    update: dict[str, object] = {"keys": keys, "store": store}
    if settings.exchange.quorum:
        quorum = str(directory / settings.exchange.quorum)
        update["exchange"] = settings.exchange.model_copy(update={"quorum": quorum})
    if settings.federation.static_directory:
        static = str(directory / settings.federation.static_directory)
        update["federation"] = settings.federation.model_copy(
            update={"static_directory": static}
        )
    return settings.model_copy(update=update)


def _absolute_url(url: str, directory: Path) -> str:
    scheme, separator, rest = url.partition(":///")
    if not (separator and scheme.startswith("sqlite")):
        return url
    return f"{scheme}:///{directory / rest}"


def initial_config(name: str, base: str, local: str, store: str | None = None) -> str:
    """Write the file that `hashlight init` leaves for the operator to edit.

    Args:
        name: The node's name.
        base: URL under which peers reach it.
        local: `HOST:PORT` of the listener for our own services.
        store: URL of the database; None for a file of SQLite beside the configuration.

    Raises:
        SettingsError: The node so described may not start.
    """
    data = {"node": {"name": name, "base": base}, "local": {"listen": local}}
    if store is not None:
        data["store"] = {"url": store}
    try:
        # Checked as values, before they become text: what passes needs no escaping.
        Settings.model_validate(data)
    except ValidationError as error:
        problems = tuple(_sentence(detail) for detail in error.errors())
        raise SettingsError(Path("hashlight.toml"), problems) from error
    text = _INITIAL.format(name=name, base=base, local=local)
    # A string of JSON is one of TOML as well.
    return text if store is None else f"{text}\n[store]\nurl = {json.dumps(store)}\n"


_INITIAL: Final = """\
# Settings of this Hashlight node. What is not here has its default;
# deploy/hashlight.example.toml explains every key.

[node]
name = "{name}"
base = "{base}"

[local]
listen = "{local}"
"""
