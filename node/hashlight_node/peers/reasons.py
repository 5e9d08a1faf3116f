"""Why a connection to a peer failed, in words that an operator can act on.

Nothing that the peer wrote is in them: only what our own side found out.
"""

from __future__ import annotations

import ssl
from typing import Final

import aiohttp

from .network import AddressRefusedError

_OLD: Final = "it does not speak TLS 1.3"
_NO_TLS: Final = "it does not answer with TLS as it should"
_UNTRUSTED: Final = "its TLS certificate is not trusted"

_CERTIFICATE: Final = {
    # Source: X509_V_ERR_* in OpenSSL's x509_vfy.h, stable for decades.
    9: "its TLS certificate is not valid yet",
    10: "its TLS certificate has expired",
    18: f"{_UNTRUSTED}: it is self-signed",
    19: f"{_UNTRUSTED}: its issuer is not known here",
    20: f"{_UNTRUSTED}: its issuer is not known here",
    21: f"{_UNTRUSTED}: its issuer is not known here",
    23: "its TLS certificate was revoked",
    62: "its TLS certificate is for another name",
    64: "its TLS certificate is for another address",
}

_OLD_TLS: Final = frozenset(
    {
        "NO_PROTOCOLS_AVAILABLE",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_SSL_VERSION",
    }
)


def explain(error: aiohttp.ClientError | OSError | UnicodeError) -> str:
    """Say what went wrong."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _explain_certificate(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name does not resolve"
    is_new = isinstance(error, aiohttp.ClientConnectorError)
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, ssl.SSLError):
        return _OLD if inner.reason in _OLD_TLS else _NO_TLS
    return _explain_connection(inner, is_new=is_new)


def _explain_connection(error: Exception, *, is_new: bool) -> str:
    match error:
        case AddressRefusedError():
            return str(error)
        case ConnectionRefusedError():
            return "nobody listens at its address"
        case ConnectionResetError() if is_new:
            return "it breaks connections off as they begin; perhaps it lacks TLS 1.3"
        case _:
            return f"the connection failed ({type(error).__name__})"


def _explain_certificate(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE.get(error.verify_code, _UNTRUSTED)
    return _UNTRUSTED
