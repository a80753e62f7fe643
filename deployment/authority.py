"""A consortium's own certificate authority, and the server certificate that it signs.

Hospitals trust this one authority and no other, so a server with any other certificate is refused
before a byte of theirs is sent. Keys are P-384, in files that only their owner can read.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crypto.whole_file import write_private

#: Clocks of hospitals differ: a certificate is valid from a little before it is made.
CLOCK_SLACK = timedelta(minutes=10)
AUTHORITY_DAYS = 3650
SERVER_DAYS = 365


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate authority: its key, and the certificate that hospitals trust."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str, *, days: int = AUTHORITY_DAYS) -> Authority:
        """Make an authority that may sign servers and no further authorities."""
        return cls._signed(
            ec.generate_private_key(ec.SECP384R1()), _name(f"{name} authority"), days
        )

    @classmethod
    def _signed(cls, key: ec.EllipticCurvePrivateKey, subject: x509.Name, days: int) -> Authority:
        certificate = (
            _builder(subject, subject, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, SHA384())
        )
        return cls(key=key, certificate=certificate)

    def renewed(self, *, days: int = AUTHORITY_DAYS) -> Authority:
        """Return the same authority with a new certificate; what it has signed stays trusted."""
        return self._signed(self.key, self.certificate.subject, days)

    @classmethod
    def read(cls, key: Path, certificate: Path) -> Authority:
        """Read what :func:`write_pair` wrote."""
        loaded = load_pem_private_key(key.read_bytes(), password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key} holds no elliptic-curve key")
        return cls(key=loaded, certificate=x509.load_pem_x509_certificate(certificate.read_bytes()))

    def sign_server(
        self, hosts: Sequence[str], *, days: int = SERVER_DAYS
    ) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        """Make a server's key and a certificate for all the names it is reached by."""
        key = ec.generate_private_key(ec.SECP384R1())
        names = list(dict.fromkeys([*hosts, "localhost", "127.0.0.1", "::1"]))
        certificate = (
            _builder(_name(hosts[0]), self.certificate.subject, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(list(map(_host, names))), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, SHA384())
        )
        return key, certificate


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def write_certificate(path: Path, certificate: x509.Certificate) -> None:
    """Write a certificate as PEM."""
    path.write_bytes(certificate.public_bytes(Encoding.PEM))


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a TLS key as PEM that only the owner can read."""
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(path, data, anew=True)


def write_node_key(private: Path, public: Path) -> None:
    """Make a SuperNode's key pair, P-384 in OpenSSH's format, as Flower reads it."""
    key = ec.generate_private_key(ec.SECP384R1())
    data = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    write_private(private, data, anew=True)
    public.write_bytes(
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
    )
