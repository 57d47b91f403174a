"""The authority and the server's certificate, judged by the TLS stack that the sites use."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from common.errors import BadInput
from deploy.federation.certificates import (
    SERVER_DAYS,
    create_authority,
    issue_server_certificate,
    parse_authority,
    read_certificate,
    renew_if_due,
)

Pair = tuple[Path, Path]


def _authority(folder: Path, now: datetime | None = None) -> Pair:
    pair = (folder / "ca.key", folder / "ca.crt")
    create_authority(*pair, name="north", now=now)
    return pair


@pytest.fixture
def authority(tmp_path: Path) -> Pair:
    return _authority(tmp_path / "ca")


@pytest.fixture
def server(tmp_path: Path) -> Pair:
    return (tmp_path / "server" / "server.key", tmp_path / "server" / "server.crt")


def _handshake(server: Pair, trusted: Path, host: str) -> None:
    """One TLS connection over a socket pair, with the strictest checks that Python's stack has."""
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.load_cert_chain(server[1], server[0])
    asking = ssl.create_default_context(cafile=str(trusted))
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            listening.wrap_socket(theirs, server_side=True).close()
        except OSError:  # the client left, which is what some tests are about
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with asking.wrap_socket(ours, server_hostname=host):
            pass
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("host", ["fl.example.org", "10.1.2.3", "2001:db8::1", "localhost", "127.0.0.1"])
def test_a_site_that_trusts_the_authority_accepts_the_server(authority: Pair, server: Pair, host: str) -> None:
    issue_server_certificate(authority, server, ["fl.example.org", "10.1.2.3", "2001:db8::1"])
    _handshake(server, authority[1], host)


def test_another_name_and_another_authority_are_refused(authority: Pair, server: Pair, tmp_path: Path) -> None:
    issue_server_certificate(authority, server, ["fl.example.org"])
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        _handshake(server, authority[1], "other.example.org")
    other = _authority(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(server, other[1], "fl.example.org")


def test_an_expired_certificate_is_refused_and_renewed(authority: Pair, server: Pair) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=SERVER_DAYS + 2)
    issue_server_certificate(authority, server, ["fl.example.org"], now=long_ago)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _handshake(server, authority[1], "fl.example.org")
    key = server[0].read_bytes()
    assert renew_if_due(authority, server, ["fl.example.org"])
    assert server[0].read_bytes() == key
    _handshake(server, authority[1], "fl.example.org")
    assert not renew_if_due(authority, server, ["fl.example.org"])


def test_a_new_address_is_a_reason_to_renew(authority: Pair, server: Pair) -> None:
    issue_server_certificate(authority, server, ["old.example.org"])
    assert renew_if_due(authority, server, ["new.example.org"])
    assert "new.example.org" in read_certificate(server[1]).hosts


def test_an_expired_authority_is_said_so(tmp_path: Path, server: Pair) -> None:
    old = _authority(tmp_path / "old", now=datetime.now(UTC) - timedelta(days=4000))
    with pytest.raises(BadInput, match="expired"):
        renew_if_due(old, server, ["fl.example.org"])
    with pytest.raises(BadInput, match="expired"):
        parse_authority(old[1].read_bytes(), "ca.crt")
    early = _authority(tmp_path / "early", now=datetime.now(UTC) + timedelta(days=2))
    with pytest.raises(BadInput, match="valid only from"):
        parse_authority(early[1].read_bytes(), "ca.crt")


def test_keys_are_their_owners_alone(authority: Pair, server: Pair) -> None:
    issue_server_certificate(authority, server, ["fl.example.org"])
    assert {stat.S_IMODE(key.stat().st_mode) for key in (authority[0], server[0])} == {0o600}
    authority[0].chmod(0o640)
    with pytest.raises(BadInput, match="chmod 600"):
        issue_server_certificate(authority, server, ["fl.example.org"])


def test_a_key_of_another_authority_signs_nothing(authority: Pair, server: Pair, tmp_path: Path) -> None:
    other = _authority(tmp_path / "other")
    with pytest.raises(BadInput, match="is not the key of"):
        issue_server_certificate((other[0], authority[1]), server, ["fl.example.org"])
    assert not server[1].exists()


def test_only_an_authoritys_certificate_is_one(authority: Pair, server: Pair) -> None:
    issue_server_certificate(authority, server, ["fl.example.org"])
    pem = authority[1].read_bytes()
    assert parse_authority(pem, "ca.crt").fingerprint == read_certificate(authority[1]).fingerprint
    for wrong in (server[1].read_bytes(), authority[0].read_bytes(), pem + pem, b"", pem[:-40], b"x" * 30_000):
        with pytest.raises(BadInput, match=r"ca\.crt"):
            parse_authority(wrong, "ca.crt")
