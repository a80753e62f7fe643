"""Who a party is to the others: a key, and a certificate that they pin; no authority signs."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from crypto.errors import IdentityError
from crypto.inference.links import FrameLink, LinkError
from crypto.whole_file import write_private

KEY, CERTIFICATE = "key.pem", "certificate.pem"
_DAYS = 3650
#: Seconds for a connection and its handshake.
HANDSHAKE_SECONDS = 10.0


def make_identity(folder: Path, name: str) -> str:
    """Make a party's key and certificate in a folder, and return the certificate's fingerprint.

    Raises:
        FileExistsError: there is a key already; it is left as it is.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=10))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA384())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(folder / KEY, secret, anew=True)
    (folder / CERTIFICATE).write_bytes(certificate.public_bytes(Encoding.PEM))
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


@dataclass(frozen=True)
class Pins:
    """The certificates that a party knows, and whose they are.

    Attributes:
        names: fingerprint -> name.
        certificates: name -> PEM.
    """

    names: Mapping[str, str]
    certificates: Mapping[str, str]

    @classmethod
    def read(cls, *files: Path) -> Pins:
        """Return the pins in certificate files; a party is called as its file.

        Raises:
            IdentityError: a file is missing, holds no certificate, or names a party once more.
        """
        names, certificates = {}, {}
        for file in files:
            try:
                text = file.read_text(encoding="ascii")
                der = x509.load_pem_x509_certificate(text.encode()).public_bytes(Encoding.DER)
            except (OSError, ValueError):
                raise IdentityError(
                    f"{file} is missing or no certificate; expected the party's {CERTIFICATE}"
                ) from None
            fingerprint = hashlib.sha256(der).hexdigest()
            if file.stem in certificates or fingerprint in names:
                raise IdentityError(
                    f"{file} is called as another party's, or holds another's certificate; each "
                    "party has one file, of its own name"
                )
            names[fingerprint] = file.stem
            certificates[file.stem] = text
        return cls(names, certificates)


def _context(folder: Path, pins: Pins, *, server: bool) -> ssl.SSLContext:
    """Return TLS 1.3 with this party's certificate, trusting the pinned ones and no authority."""
    protocol = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if server:
        context.num_tickets = 0  # nobody resumes: each connection shows its certificate
    if pins.certificates:
        context.load_verify_locations(cadata="\n".join(pins.certificates.values()))
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    return context


def _name_of(connection: ssl.SSLSocket, pins: Pins) -> str:
    certificate = connection.getpeercert(binary_form=True) or b""
    name = pins.names.get(hashlib.sha256(certificate).hexdigest())
    if name is None:
        connection.close()
        raise LinkError("the other end has a certificate that is not pinned here")
    return name


def connect(folder: Path, address: str, pins: Pins, *, patience: float = 60.0) -> FrameLink:
    """Connect to the one party that is pinned.

    Raises:
        LinkError: it cannot be reached, or is another.
    """
    (name,) = pins.certificates
    host, _, port = address.rpartition(":")
    try:
        plain = socket.create_connection((host.strip("[]"), int(port)), HANDSHAKE_SECONDS)
    except (OSError, ValueError) as error:
        raise LinkError(
            f"the {name} cannot be reached at {address} ({error}); is it running there?"
        ) from None
    try:
        connection = _context(folder, pins, server=False).wrap_socket(plain)
        _name_of(connection, pins)
    except TimeoutError:
        plain.close()
        raise LinkError(
            f"what listens at {address} says nothing: is the {name} overloaded, or the port wrong?"
        ) from None
    except (ssl.SSLCertVerificationError, LinkError) as error:
        plain.close()
        raise LinkError(f"who answers at {address} is not the pinned {name} ({error})") from None
    except OSError as error:
        plain.close()
        raise LinkError(
            f"what listens at {address} does not speak as the {name} does ({error}): is the port "
            "right?"
        ) from None
    return FrameLink(connection, peer=f"the {name}", patience=patience)


class Greeter:
    """Takes connections in for a server, and says whose they are.

    Args:
        folder: of this party.
        pins: who may connect.
    """

    def __init__(self, folder: Path, pins: Pins) -> None:
        self._pins, self._context = pins, _context(folder, pins, server=True)

    def arrived(self, plain: socket.socket) -> ssl.SSLSocket:
        """Return a connection that was taken in, before its handshake."""
        plain.settimeout(HANDSHAKE_SECONDS)
        return self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)

    def greet(self, connection: ssl.SSLSocket, *, patience: float) -> tuple[FrameLink, str]:
        """Return the link with a peer and the peer's name.

        Raises:
            LinkError: it shows no pinned certificate in time.
        """
        try:
            connection.do_handshake()
            name = _name_of(connection, self._pins)
        except (OSError, ValueError, LinkError) as error:
            connection.close()
            raise LinkError(f"a connection without a pinned certificate ({error})") from None
        return FrameLink(connection, peer=name, patience=patience), name
