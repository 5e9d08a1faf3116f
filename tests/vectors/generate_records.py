"""Make signals.json, records.json and requests.json.

Everything is derived from the tables here: expectations are written down by hand, and
the test beside this file holds the code to them. Only signatures are computed.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).resolve().parent

PDQ = "f8f8f0cc0ee0fcb4c2b8b4cd5b1f1a1b3a0c1d2e4f5061728394a5b6c7d8e9fa"
MD5 = "d41d8cd98f00b204e9800998ecf8427e"
SHA1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HMAC = f"hmac-sha256:2026-a:{SHA256}"
ORIGIN = "shield.example/hsf/v1/log/ncii/1"

# Type, value, canonical value; the key is that of SPEC.md#signal-types.
GOOD_SIGNALS = [
    ("pdq in lower case", "pdq", PDQ, PDQ),
    ("pdq in upper case", "pdq", PDQ.upper(), PDQ),
    ("md5", "md5", MD5, MD5),
    ("sha1", "sha1", SHA1.upper(), SHA1),
    ("sha256", "sha256", SHA256, SHA256),
    ("photodna as it came", "photodna", "AAEC+/8=", "AAEC+/8="),
    ("vpdq by digest", "vpdq", f"sha256:{SHA256}", f"sha256:{SHA256}"),
    ("tmk by digest", "tmk", f"sha256:{SHA256.upper()}", f"sha256:{SHA256}"),
    ("url without a path", "url", "HTTPS://A.Example", "https://a.example/"),
    ("default port", "url", "https://a.example:443/x", "https://a.example/x"),
    ("another port", "url", "https://a.example:80/x", "https://a.example:80/x"),
    ("fragment", "url", "http://a.example/x?q=1#f", "http://a.example/x?q=1"),
    ("escapes", "url", "http://a.example/%7e%zz", "http://a.example/%7E%zz"),
    ("dot segments stay", "url", "http://a.example/x/../y", "http://a.example/x/../y"),
    ("final dot", "url", "http://a.example./", "http://a.example/"),
    ("IPv6", "url", "http://[2001:DB8:0::1]/", "http://[2001:db8::1]/"),
    ("domain", "domain", "CDN.A.Example.", "cdn.a.example"),
    ("keyed e-mail", "email", HMAC, HMAC),
    ("keyed phone", "phone", HMAC, HMAC),
    ("keyed user name", "username", HMAC, HMAC),
    ("keyword in another case", "keyword", "  Straße\u3000CAFE\u0301 ", "strasse café"),
    ("unknown type", "netclean", "AbC==", "AbC=="),
]
BAD_SIGNALS = [
    ("pdq too short", "pdq", PDQ[:-1]),
    ("pdq with a space", "pdq", PDQ[:-1] + " "),
    ("md5 that is a sha1", "md5", SHA1),
    ("vpdq inline", "vpdq", SHA256),
    ("plain e-mail address", "email", "someone@example.org"),
    ("plain hash of an e-mail address", "email", SHA256),
    ("hmac without a key id", "phone", f"hmac-sha256::{SHA256}"),
    ("url with a user", "url", "https://user@a.example/"),
    ("url without a scheme", "url", "a.example/x"),
    ("url of another scheme", "url", "ftp://a.example/"),
    ("url that is not ASCII", "url", "https://a.example/\u00e9"),
    ("url with port 0", "url", "https://a.example:0/"),
    ("domain of one label", "domain", "localhost"),
    ("domain that is an address", "domain", "192.0.2.1"),
    ("kelvin sign", "domain", "\u212a.example"),
    ("keyword of spaces", "keyword", "  "),
    ("control character", "photodna", "a\u0000b"),
    ("empty value", "netclean", ""),
    ("value too long", "netclean", "a" * 4097),
    ("type that is no token", "Net Clean", "a"),
]


def key_of(signal_type: str, canonical: str) -> bytes:
    if signal_type in {"pdq", "md5", "sha1", "sha256"}:
        return bytes.fromhex(canonical)
    return canonical.encode()


def signals() -> dict[str, Any]:
    return {
        "about": "SPEC.md, section Signal types.",
        "cases": [
            {
                "name": name,
                "valid": True,
                "type": signal_type,
                "value": value,
                "canonical": canonical,
                "key_hex": key_of(signal_type, canonical).hex(),
            }
            for name, signal_type, value, canonical in GOOD_SIGNALS
        ]
        + [
            {
                "name": name,
                "valid": False,
                "type": signal_type,
                "value": value,
                "error": "bad-signal",
            }
            for name, signal_type, value in BAD_SIGNALS
        ],
    }


INDICATOR = {
    "type": "indicator",
    "signals": [
        {"type": "pdq", "value": PDQ, "quality": 88},
        {"type": "md5", "value": MD5},
    ],
    "kind": "image",
    "labels": [
        {"scheme": "ncii", "value": "adult"},
        {
            "scheme": "iwf",
            "value": "B",
            "jurisdiction": "GB",
            "assigned_by": "shield.example",
        },
    ],
    "source": "hotline",
    "review": {"level": "human", "reviewers": 2},
    "synthetic": False,
    "case": "mE8x_27-q",
    "created": "2026-11-21T10:00:00Z",
    "expires": "2027-11-21T10:00:00Z",
    "replaces": 41,
    "share": "none",
}
# What a reader has to understand of it: instants in Unix seconds.
INDICATOR_READ = {
    "type": "indicator",
    "signals": [
        {"type": "pdq", "value": PDQ, "quality": 88},
        {"type": "md5", "value": MD5, "quality": None},
    ],
    "kind": "image",
    "source": "hotline",
    "created_at": 1795255200,
    "labels": [
        {"scheme": "ncii", "value": "adult", "jurisdiction": None, "assigned_by": None},
        {
            "scheme": "iwf",
            "value": "B",
            "jurisdiction": "GB",
            "assigned_by": "shield.example",
        },
    ],
    "review": {"level": "human", "reviewers": 2},
    "synthetic": False,
    "case": "mE8x_27-q",
    "expires_at": 1826791200,
    "replaces": 41,
    "share": "none",
}
SMALLEST = {
    "type": "indicator",
    "signals": [{"type": "sha256", "value": SHA256.upper()}],
    "kind": "image",
    "source": "platform",
    "created": "1970-01-01T00:00:00Z",
}
SMALLEST_READ = {
    "type": "indicator",
    "signals": [{"type": "sha256", "value": SHA256, "quality": None}],
    "kind": "image",
    "source": "platform",
    "created_at": 0,
    "labels": [],
    "review": {"level": "none", "reviewers": None},
    "synthetic": None,
    "case": None,
    "expires_at": None,
    "replaces": None,
    "share": "none",
}
OPINION = {
    "type": "opinion",
    "ref": f"{ORIGIN}#7",
    "signal": "pdq",
    "stance": "dispute",
    "reason": "potential-meme",
    "tags": ["viral"],
}
OPINION_READ = {
    "type": "opinion",
    "ref": f"{ORIGIN}#7",
    "stance": "dispute",
    "signal_type": "pdq",
    "reason": "potential-meme",
    "tags": ["viral"],
}
SIGHTING = {
    "type": "sighting",
    "ref": f"{ORIGIN}#7",
    "outcome": "blocked",
    "count": 3,
    "first_at": "2026-11-21T10:00:00Z",
    "last_at": "2026-11-21T10:00:00Z",
}
SIGHTING_READ = {
    "type": "sighting",
    "ref": f"{ORIGIN}#7",
    "outcome": "blocked",
    "count": 3,
    "first_at": 1795255200,
    "last_at": 1795255200,
    "signal_type": None,
}


def text_of(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def good_records() -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield "every member of an indicator", text_of(INDICATOR), INDICATOR_READ
    yield "smallest indicator", text_of(SMALLEST), SMALLEST_READ
    yield (
        "spaces and another order",
        json.dumps(dict(reversed(SMALLEST.items())), indent=1),
        SMALLEST_READ,
    )
    yield (
        "unknown members are ignored",
        text_of(SMALLEST | {"x_note": {"deep": [None, 1.5]}}),
        SMALLEST_READ,
    )
    yield (
        "known critical members",
        text_of(SMALLEST | {"crit": ["kind"]}),
        SMALLEST_READ,
    )
    yield "opinion", text_of(OPINION), OPINION_READ
    yield "sighting", text_of(SIGHTING), SIGHTING_READ
    yield (
        "unknown type is kept",
        text_of({"type": "appeal", "crit": ["x"]}),
        {"type": "appeal"},
    )
    yield (
        "unknown signal type",
        text_of(SMALLEST | {"signals": [{"type": "netclean", "value": "AbC=="}]}),
        SMALLEST_READ
        | {"signals": [{"type": "netclean", "value": "AbC==", "quality": None}]},
    )


def bad_records() -> Iterator[tuple[str, str, str, str | None]]:
    for name, changes, pointer in (
        ("no signal", {"signals": []}, "/signals"),
        ("33 signals", {"signals": SMALLEST["signals"] * 33}, "/signals"),  # type: ignore[operator]
        ("the same signal twice", {"signals": SMALLEST["signals"] * 2}, "/signals"),  # type: ignore[operator]
        (
            "pdq of low quality",
            {"signals": [{"type": "pdq", "value": PDQ, "quality": 49}]},
            "/signals/0/quality",
        ),
        (
            "plain e-mail address",
            {"signals": [{"type": "email", "value": "someone@example.org"}]},
            "/signals/0",
        ),
        ("a government as source", {"source": "government"}, "/source"),
        ("a sentence as kind", {"kind": "a holiday picture"}, "/kind"),
        ("a number as time", {"created": 0}, "/created"),
        ("a time with an offset", {"created": "1970-01-01T00:00:00+00:00"}, "/created"),
        ("expired when created", {"expires": "1970-01-01T00:00:00Z"}, "/expires"),
        ("null is not missing", {"case": None}, "/case"),
        ("true is no number", {"replaces": True}, "/replaces"),
        ("critical and not there", {"crit": ["x"]}, "/crit/0"),
    ):
        yield name, text_of(SMALLEST | changes), "bad-record", pointer
    unknown = SMALLEST | {"crit": ["geofence"], "geofence": "GB"}
    yield "critical and unknown", text_of(unknown), "unknown-critical", None
    yield (
        "sighting that ends before it starts",
        text_of(SIGHTING | {"last_at": "2026-11-21T09:59:59Z"}),
        "bad-record",
        "/last_at",
    )
    yield (
        "opinion about nothing",
        text_of(OPINION | {"ref": ORIGIN}),
        "bad-record",
        "/ref",
    )
    yield "no object", "[]", "bad-record", ""
    yield "repeated member", '{"type":"appeal","type":"appeal"}', "malformed", None
    yield "byte order mark", "\ufeff" + text_of(SMALLEST), "malformed", None
    yield "beyond a double", '{"type":"appeal","x":1e400}', "malformed", None
    yield "beyond 2^53-1", '{"type":"appeal","x":9007199254740992}', "malformed", None
    yield "lone surrogate", r'{"type":"appeal","x":"\ud800"}', "malformed", None
    deep = '{"type":"appeal","x":' + "[" * 16 + "]" * 16 + "}"
    yield "nested 17 deep", deep, "malformed", None
    yield (
        "one byte too long",
        text_of(
            {
                "type": "appeal",
                "x": "a" * (16_384 - len('{"type":"appeal","x":""}') + 1),
            }
        ),
        "too-large",
        None,
    )


def records() -> dict[str, Any]:
    return {
        "about": "SPEC.md, section Records. `read` has instants in Unix seconds.",
        "cases": [
            {"name": name, "valid": True, "body": body, "read": read}
            for name, body, read in good_records()
        ]
        + [
            {
                "name": name,
                "valid": False,
                "body": body,
                "error": error,
                **({} if pointer is None else {"pointer": pointer}),
            }
            for name, body, error, pointer in bad_records()
        ],
    }


SEED = hashlib.sha256(b"hashlight test vector: HTTP key h1 of beta.example").digest()
KEY = Ed25519PrivateKey.from_private_bytes(SEED)
NOW = 1_795_255_200
PLAIN = ("@method", "@authority", "@path")
WITH_BODY = (*PLAIN, "content-digest", "content-type")
PARAMS = f';created={NOW};keyid="beta.example#h1";tag="hsf-v1"'
TEXT = "text/plain; charset=utf-8"
BODY = (
    f"old 0\n\n{ORIGIN}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n".encode()
)

GET = {"method": "GET", "authority": "alpha.example", "path": "/hsf/v1/grants"}
POST = {
    "method": "POST",
    "authority": "127.0.0.1:8440",
    "path": "/hsf/v1/witness/add-checkpoint",
}


def digest_of(body: bytes) -> str:
    return f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:"


def signed(
    request: dict[str, str],
    body: bytes = b"",
    *,
    names: tuple[str, ...] = PLAIN,
    params: str = PARAMS,
) -> dict[str, str]:
    values = {f"@{name}": value for name, value in request.items()}
    fields = {"content-digest": digest_of(body), "content-type": TEXT} if body else {}
    listed = "(" + " ".join(f'"{name}"' for name in names) + ")"
    lines = [f'"{name}": {(values | fields)[name]}' for name in names]
    lines.append(f'"@signature-params": {listed}{params}')
    signature = b64encode(KEY.sign("\n".join(lines).encode())).decode()
    return fields | {
        "signature-input": f"hsf={listed}{params}",
        "signature": f"hsf=:{signature}:",
    }


def request_case(
    name: str,
    request: dict[str, str],
    fields: dict[str, str],
    body: bytes = b"",
    *,
    now: int = NOW,
    error: str | None = None,
) -> dict[str, Any]:
    case = {
        "name": name,
        "valid": error is None,
        "now": now,
        **request,
        "fields": fields,
        "body": body.decode(),
    }
    return case if error is None else case | {"error": error}


def good_requests() -> Iterator[dict[str, Any]]:
    get, post = signed(GET), signed(POST, BODY, names=WITH_BODY)
    yield request_case("without a body", GET, get)
    yield request_case("with a body", POST, post, BODY)
    yield request_case("300 s old", GET, get, now=NOW + 300)
    yield request_case("60 s ahead", GET, get, now=NOW - 60)
    alg = PARAMS + ';alg="ed25519"'
    yield request_case("alg named", GET, signed(GET, params=alg))
    order = f';tag="hsf-v1";keyid="beta.example#h1";created={NOW};nonce="n1"'
    yield request_case("parameters in another order", GET, signed(GET, params=order))


def bad_requests() -> Iterator[dict[str, Any]]:
    get, post = signed(GET), signed(POST, BODY, names=WITH_BODY)
    yield request_case("no signature", GET, {}, error="auth-missing")
    yield request_case("301 s old", GET, get, now=NOW + 301, error="clock-skew")
    yield request_case("61 s ahead", GET, get, now=NOW - 61, error="clock-skew")
    plain = signed(POST) | {"content-digest": digest_of(BODY), "content-type": TEXT}
    label = {name: value.replace("hsf=", "sig1=", 1) for name, value in get.items()}
    for name, request, fields, body in (
        ("another method", GET | {"method": "PUT"}, get, b""),
        ("another node", GET | {"authority": "gamma.example"}, get, b""),
        ("another path", GET | {"path": "/hsf/v1/lists/x"}, get, b""),
        ("another body", POST, post, BODY + b"\n"),
        ("a body removed", POST, post, b""),
        ("a body that is not covered", POST, plain, BODY),
        ("another content type", POST, post | {"content-type": "text/plain"}, BODY),
        (
            "authority not covered",
            GET,
            signed(GET, names=("@method", "@path")),
            b"",
        ),
        (
            "components in another order",
            GET,
            signed(GET, names=("@authority", "@method", "@path")),
            b"",
        ),
        ("another label", GET, label, b""),
    ):
        yield request_case(name, request, fields, body, error="auth-invalid")
    for name, params in (
        ("without tag", f';created={NOW};keyid="beta.example#h1"'),
        ("without created", ';keyid="beta.example#h1";tag="hsf-v1"'),
        ("without keyid", f';created={NOW};tag="hsf-v1"'),
        ("another alg", PARAMS + ';alg="hmac-sha256"'),
        ("expires", PARAMS + f";expires={NOW + 60}"),
        ("keyid without a key", f';created={NOW};keyid="beta.example";tag="hsf-v1"'),
    ):
        fields = signed(GET, params=params)
        yield request_case(name, GET, fields, error="auth-invalid")
    query = GET | {"path": "/hsf/v1/grants?x=1"}
    yield request_case("a query", query, signed(query), error="malformed")
    escape = GET | {"path": "/hsf/v1/%67rants"}
    yield request_case("an escape", escape, signed(escape), error="malformed")


def requests() -> dict[str, Any]:
    return {
        "about": "SPEC.md, section Requests. `fields` are header fields, `now` is the"
        " verifier's clock, `authority` its own.",
        "key_id": "beta.example#h1",
        "seed_hex": SEED.hex(),
        "public_key_hex": KEY.public_key().public_bytes_raw().hex(),
        "rfc9421_b_2_6": {
            "about": "RFC 9421, appendix B.2.6, with the key of B.1.4: for the"
            " signature base and the algorithm; the profile itself refuses it.",
            "seed_hex": "9f8362f87a484a954e6e740c5b4c0e84"
            "229139a20aa8ab56ff66586f6a7d29c5",
            "public_key_hex": "26b40b8f93fff3d897112f7ebc582b23"
            "2dbd72517d082fe83cfb30ddce43d1bb",
            "components": [
                ["date", "Tue, 20 Apr 2021 02:07:55 GMT"],
                ["@method", "POST"],
                ["@path", "/foo"],
                ["@authority", "example.com"],
                ["content-type", "application/json"],
                ["content-length", "18"],
            ],
            "params": '("date" "@method" "@path" "@authority" "content-type"'
            ' "content-length");created=1618884473;keyid="test-key-ed25519"',
            "signature": "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u"
            "02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
        },
        "cases": [*good_requests(), *bad_requests()],
    }


def build() -> dict[str, str]:
    """Give the content of every file by its name."""
    documents = {
        "signals.json": signals(),
        "records.json": records(),
        "requests.json": requests(),
    }
    return {
        name: json.dumps(document, indent=1, ensure_ascii=True) + "\n"
        for name, document in documents.items()
    }


if __name__ == "__main__":
    for name, content in build().items():
        (HERE / name).write_text(content, encoding="utf-8")
