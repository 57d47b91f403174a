"""The federation's own certificate authority and the coordinator's server certificate (TLS).

Both keys are ECDSA on P-256: every TLS library takes it, while Ed25519 certificates are still refused by some.
The authority signs this one server only; its certificate, which holds no secret, travels in the invitations and
is the only one that a site trusts. Renewal keeps the server's key, so that replacing one file is all it takes
and a crash can never leave a key beside another key's certificate.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import BadInput
from common.files import atomically
from common.privacy.ledger.keys import check_private, write_private

__all__ = [
    "AUTHORITY_DAYS",
    "RENEW_WITHIN_DAYS",
    "SERVER_DAYS",
    "CertificateFacts",
    "create_authority",
    "issue_server_certificate",
    "parse_authority",
    "read_certificate",
    "renew_if_due",
]

AUTHORITY_DAYS: Final = 3650
SERVER_DAYS: Final = 397
"""Validity of a server certificate; the longest that browsers and Apple's TLS accept is 398 days."""
RENEW_WITHIN_DAYS: Final = 30
"""A certificate with fewer days left is renewed when the coordinator starts."""

_ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
"""What the coordinator's own processes call it."""
_CLOCK_SKEW: Final = timedelta(hours=1)
"""Certificates are valid from a little before they are made: a site's clock may be late."""
_LARGEST_FILE: Final = 20_000


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate says of itself."""

    fingerprint: str
    """SHA-256 of the DER form, 64 lower-case hexadecimal digits."""
    hosts: tuple[str, ...]
    """Host names and IP addresses that it is valid for; none in an authority's."""
    not_before: datetime
    not_after: datetime

    def days_left(self, now: datetime | None = None) -> float:
        """Days until it expires; negative afterwards."""
        return (self.not_after - (now or datetime.now(UTC))) / timedelta(days=1)


def create_authority(key: Path, certificate: Path, name: str, now: datetime | None = None) -> None:
    """Make a new authority: its key (0600) and its certificate, in new files; raises ``BadInput``."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Hanse federation {name}"[:64])])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        _builder(subject, subject, private.public_key(), AUTHORITY_DAYS, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key()), critical=False)
        .sign(private, SHA256())
    )
    write_private(key, _pem(private))
    write_private(certificate, made.public_bytes(Encoding.PEM))


def issue_server_certificate(
    authority: tuple[Path, Path], server: tuple[Path, Path], hosts: Sequence[str], now: datetime | None = None
) -> None:
    """Issue or renew the server's certificate, valid for ``hosts`` and for the machine's own names.

    Args:
        authority: key and certificate of the authority.
        server: key, made (0600) if there is none, and certificate, replaced atomically.
        hosts: host names and IP addresses, checked by :func:`deploy.federation.address.parse_host`.
        now: start of the validity; the present by default.

    Raises:
        BadInput: a file is missing, is no such key or certificate, or is open to others than its owner.
    """
    signing, issuer = _load_key(authority[0]), _load(authority[1])
    if signing.public_key() != issuer.public_key():
        raise BadInput(f"{authority[0]}: is not the key of {authority[1]}; restore the two from one backup")
    if not server[0].exists():
        write_private(server[0], _pem(ec.generate_private_key(ec.SECP256R1())))
    private = _load_key(server[0])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    names = [_general_name(host) for host in dict.fromkeys([*hosts, *_ALWAYS])]
    made = (
        _builder(subject, issuer.subject, private.public_key(), SERVER_DAYS, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .sign(signing, SHA256())
    )
    with atomically(server[1]) as temporary:
        temporary.write_bytes(made.public_bytes(Encoding.PEM))


def renew_if_due(
    authority: tuple[Path, Path], server: tuple[Path, Path], hosts: Sequence[str], now: datetime | None = None
) -> bool:
    """Renew the server's certificate if it ends within 30 days or lacks one of ``hosts``; tell whether it was.

    Raises:
        BadInput: the authority itself has expired, or as :func:`issue_server_certificate`.
    """
    moment = now or datetime.now(UTC)
    ends = read_certificate(authority[1])
    if ends.days_left(moment) <= 0:
        raise BadInput(
            f"{authority[1]}: expired on {ends.not_after:%Y-%m-%d}; make a new federation folder and invite the "
            "sites again"
        )
    if server[1].exists():
        facts = read_certificate(server[1])
        if facts.days_left(moment) > RENEW_WITHIN_DAYS and set(hosts) <= set(facts.hosts):
            return False
    issue_server_certificate(authority, server, hosts, now)
    return True


def read_certificate(path: Path) -> CertificateFacts:
    """What the certificate in a PEM file says of itself; raises ``BadInput``."""
    return _facts(_load(path))


def parse_authority(pem: bytes, where: str, now: datetime | None = None) -> CertificateFacts:
    """Check that ``pem`` is one authority's certificate, signed by itself and valid now.

    Raises:
        BadInput: it is not; ``where`` names it in the message.
    """
    certificate = _parse(pem, where)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(certificate)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature) as error:
        raise BadInput(f"{where}: is not the certificate of an authority signed by itself") from error
    if not constraints.ca:
        raise BadInput(f"{where}: is not the certificate of an authority")
    facts, moment = _facts(certificate), now or datetime.now(UTC)
    if moment < facts.not_before:
        raise BadInput(f"{where}: is valid only from {facts.not_before:%Y-%m-%d %H:%M} UTC; check this clock")
    if moment > facts.not_after:
        raise BadInput(f"{where}: expired on {facts.not_after:%Y-%m-%d}; ask the coordinator for a new invitation")
    return facts


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int, now: datetime | None
) -> x509.CertificateBuilder:
    start = (now or datetime.now(UTC)) - _CLOCK_SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        hosts: list[str] = []
    else:
        hosts = [*names.get_values_for_type(x509.DNSName)]
        hosts += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return CertificateFacts(
        certificate.fingerprint(SHA256()).hex(),
        tuple(hosts),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def _load(path: Path) -> x509.Certificate:
    try:
        with path.open("rb") as stream:
            pem = stream.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    return _parse(pem, str(path))


def _parse(pem: bytes, where: str) -> x509.Certificate:
    if len(pem) > _LARGEST_FILE or pem.count(b"-----BEGIN ") != 1:
        raise BadInput(f"{where}: must hold one certificate in PEM form and nothing else")
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise BadInput(f"{where}: no certificate can be read from it") from error


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    check_private(path)
    try:
        private = load_pem_private_key(path.read_bytes()[:_LARGEST_FILE], password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path}: no private key can be read from it") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise BadInput(f"{path}: a {type(private).__name__}; must be an elliptic-curve key")
    return private


def _pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
