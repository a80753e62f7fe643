"""When certificates are valid: one that is not yet, or no longer, is named with its date.

TLS alone says "certificate has expired" and neither whose nor since when.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from clients.contract.printable import printable
from deployment.errors import DeploymentError

#: What makes a new certificate, and where it belongs then.
NEW_SERVER = "'asclepias renew DIR' on the consortium's folder makes a new one"
NEW_AUTHORITY = (
    "'asclepias renew DIR --authority' on the consortium's folder makes a new one, and ca.pem of "
    "every hospital is replaced by it"
)
#: OpenSSL's codes for what a certificate's dates are refused for.
_NOT_YET, _ENDED = 9, 10
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Validity:
    """Whose certificate it is, and from when until when it is valid."""

    name: str
    begin: datetime
    end: datetime

    def fault(self, where: str, mend: str, now: datetime | None = None) -> str:
        """Say that it is not valid at a moment, which is now unless given; "" where it is."""
        now = now or datetime.now(UTC)
        if now < self.begin:
            return (
                f"the certificate of {self.name!r} ({where}) is not valid before "
                f"{self.begin:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M} UTC by this "
                f"machine's clock; set the clock right, or {mend}"
            )
        if now > self.end:
            ended = f"{self.end:%Y-%m-%d %H:%M} UTC"
            return f"the certificate of {self.name!r} ({where}) ended on {ended}; {mend}"
        return ""


def validity_of(certificate: x509.Certificate) -> Validity:
    """Return whose a certificate is, and its dates."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Validity(
        name=printable(str(names[0].value)) if names else "nobody",
        begin=certificate.not_valid_before_utc,
        end=certificate.not_valid_after_utc,
    )


def read_certificate(file: Path) -> x509.Certificate:
    """Read a certificate from a PEM file.

    Raises:
        DeploymentError: it holds none.
    """
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DeploymentError(f"{file} holds no certificate: {error}") from None


def require_valid(file: Path, mend: str) -> None:
    """Insist that the certificate in a PEM file is valid now.

    Raises:
        DeploymentError: it is not; the message says whose it is, since when, and what mends it.
    """
    if fault := validity_of(read_certificate(file)).fault(str(file), mend):
        raise DeploymentError(fault)


def served_fault(address: str, authority: Path) -> str:
    """Say that a server shows a certificate which is not valid now; "" for whatever else it does.

    Args:
        address: ``host:port``.
        authority: file of the certificate that is trusted.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context = ssl.create_default_context(cafile=str(authority))
    try:
        with (
            socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        if error.verify_code not in (_NOT_YET, _ENDED):
            return ""
    except (OSError, ValueError):
        return ""
    # Not trusted, only looked at: to say what is wrong with it.
    shown = ssl.get_server_certificate((host, int(port)), timeout=_ANSWER_SECONDS)
    certificate = x509.load_pem_x509_certificate(shown.encode())
    return validity_of(certificate).fault(f"shown by {address}", f"at the SuperLink, {NEW_SERVER}")
