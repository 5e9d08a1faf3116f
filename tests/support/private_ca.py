"""A certificate authority that only a test trusts."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAYS = 2


@dataclass(frozen=True)
class ServerCertificate:
    """What a proxy is configured with, and what its callers trust."""

    chain: Path
    key: Path
    authority: Path


def certify_server(directory: Path, host: str) -> ServerCertificate:
    """Make an authority and a certificate by it for one name."""
    root_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in "12")
    root_name = _name("an authority for tests")
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    identifier = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    signs_certificates = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    root = (
        _builder(root_name, root_key.public_key(), root_name)
        .add_extension(constraints, critical=True)
        .add_extension(signs_certificates, critical=True)
        .add_extension(identifier, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    server = (
        _builder(_name("a node"), server_key.public_key(), root_name)
        .add_extension(names, critical=False)
        .add_extension(issuer, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    made = ServerCertificate(
        directory / "node.pem", directory / "node.key", directory / "authority.pem"
    )
    pem = serialization.Encoding.PEM
    made.chain.write_bytes(server.public_bytes(pem))
    made.authority.write_bytes(root.public_bytes(pem))
    made.key.write_bytes(
        server_key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: x509.Name
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=_DAYS))
        .not_valid_after(now + dt.timedelta(days=_DAYS))
    )
