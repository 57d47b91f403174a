"""Log lines: their form, what is withheld from them, and the file that they go to."""

from __future__ import annotations

import io
import json
import logging
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BadInput
from deploy.structured_log import JsonLines, PlainLines, PrivateLogFile, start_logging, without_secrets


class Line:
    """Logs one line through a formatter and reads it back."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self._stream = io.StringIO()
        self.log = logging.Logger("hanse.guard")
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(formatter)
        self.log.addHandler(handler)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def json(self) -> dict[str, object]:
        (line,) = self.text.splitlines()
        found = json.loads(line)
        assert isinstance(found, dict)
        return found


def private_keys() -> Iterator[str]:
    """Every form in which a private key of Hanse is ever held."""
    ed25519, curve = Ed25519PrivateKey.generate(), generate_private_key(SECP384R1())
    yield ed25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    yield curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    yield curve.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def body(pem: str) -> str:
    """A key without its frame."""
    return "".join(line for line in pem.splitlines() if not line.startswith("-----"))


def test_a_json_line_says_when_what_and_where() -> None:
    line = Line(JsonLines())
    line.log.warning("refused: %s", "study: not approved", extra={"facts": {"round": 3, "site": "north"}})
    found = line.json
    moment = datetime.fromisoformat(str(found.pop("time")))
    assert moment.utcoffset() is not None
    assert not moment.utcoffset()
    assert found == {
        "level": "warning", "logger": "hanse.guard", "event": "refused", "message": "refused: study: not approved",
        "round": 3, "site": "north",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("template", "arguments", "event"),
    [
        ("listening on %s", ("x: y",), "listening-on"),
        ("not ready: %s", ("ledger: gone",), "not-ready"),
        ("%s", ("refused: forged",), "message"),
        ("", (), "message"),
    ],
)
def test_the_event_comes_from_the_template_and_never_from_a_value(
    template: str, arguments: tuple[str, ...], event: str
) -> None:
    line = Line(JsonLines())
    line.log.warning(template, *arguments)
    assert line.json["event"] == event


def test_a_fact_does_not_replace_what_a_line_always_holds() -> None:
    line = Line(JsonLines())
    line.log.error("failed: %s", "x", extra={"facts": {"level": "info", "time": "never", "share": float("nan")}})
    found = line.json
    assert (found["level"], found["share"]) == ("error", "nan")
    assert found["time"] != "never"


@given(st.text(max_size=200))
def test_whatever_a_peer_sends_is_one_line(sent: str) -> None:
    """No forged second line, no escape sequence that steers a terminal."""
    for formatter in (JsonLines(), PlainLines()):
        line = Line(formatter)
        line.log.warning("refused: %s", sent)
        assert line.text.endswith("\n")
        assert len(line.text[:-1].splitlines()) == 1
        assert not any(ord(each) < 32 or ord(each) == 127 for each in line.text[:-1])


@pytest.mark.parametrize("formatter", [JsonLines(), PlainLines()])
def test_no_private_key_is_logged_in_any_form(formatter: logging.Formatter) -> None:
    """In a message, in a fact, with its frame, cut off, without it, or in an exception's text."""
    for pem in private_keys():
        secret = body(pem)
        line = Line(formatter)
        line.log.error("key: %s", pem, extra={"facts": {"found": pem, "private_key": secret, "node": secret}})
        line.log.error("key: %s", pem[: len(pem) // 2])
        line.log.error("key: %s", secret)
        try:
            raise ValueError(pem)
        except ValueError:
            line.log.exception("failed: %s", "the key's file")
        for start in range(0, len(secret) - 24, 8):
            assert secret[start : start + 24] not in line.text.replace("\\n", "").replace("\n", "")
        assert "withheld" in line.text


def test_credentials_are_withheld_and_what_is_public_is_not() -> None:
    digest = "9f" * 32
    said = without_secrets(
        f"study {digest} at postgresql://user:hunter2@host/name?password=hunter3 with Bearer abcdefgh12345678"
    )
    assert digest in said
    assert "hunter" not in said
    assert "abcdefgh12345678" not in said


def test_a_fact_named_like_a_secret_or_like_data_is_withheld() -> None:
    line = Line(JsonLines())
    facts = {"control_token": "ab" * 32, "text": "the patient said", "batch_size": 31, "tokens_file": "kept"}
    line.log.info("started: %s", "x", extra={"facts": facts})
    assert "ab" * 32 not in line.text
    assert "patient" not in line.text
    assert line.json["batch_size"] == "[withheld: data]"
    assert line.json["tokens_file"] == "kept"


def test_p15_a_json_line_says_of_an_exception_its_type_and_place_alone() -> None:
    line = Line(JsonLines())
    try:
        raise ValueError("row 7: the patient said")
    except ValueError:
        line.log.exception("failed: %s", "a round")
    assert "patient" not in line.text
    assert line.json["error"] == "ValueError"
    assert str(line.json["at"]).startswith("test_p15_")


def test_the_file_is_its_owners_alone_and_rotated_by_size(tmp_path: Path) -> None:
    path = tmp_path / "guard.log"
    path.touch(mode=0o644)
    handler = PrivateLogFile(path, most_bytes=1_000, backups=2)
    log = logging.Logger("hanse")
    log.addHandler(handler)
    for number in range(100):
        log.warning("line: %d of a hundred", number)
    handler.close()
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["guard.log", "guard.log.1", "guard.log.2"]
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.stat().st_size <= 1_000


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="cannot be written"):
        start_logging("info", "json", tmp_path / "link.log")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("level", "form"), [("loud", "json"), ("info", "xml")])
def test_a_level_or_form_that_is_none_is_refused(level: str, form: str) -> None:
    with pytest.raises(BadInput, match="must be one of"):
        start_logging(level, form)


def test_a_process_logs_in_the_form_that_was_asked_for() -> None:
    """In a process of its own: here pytest has set up logging, which is kept."""
    script = (
        "import logging; from deploy.structured_log import start_logging\n"
        "start_logging('info', 'text'); start_logging('info', 'json')\n"
        "logging.getLogger('hanse.guard').info('listening on %s', 'guard.sock')\n"
        "logging.getLogger('flwr').info('chatter')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["event"] == "listening-on"


def test_what_pytest_set_up_is_kept() -> None:
    before = list(logging.getLogger().handlers)
    assert before
    start_logging("info", "json")
    assert logging.getLogger().handlers == before
