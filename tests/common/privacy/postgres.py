"""A PostgreSQL for tests: the one that HANSE_TEST_POSTGRES names, or a throw-away server of Debian's."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["fresh_database", "missing", "server"]


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def missing() -> str | None:
    """Why no PostgreSQL can be used; None if one can."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'hanse[postgres]'"
    if "HANSE_TEST_POSTGRES" not in os.environ and _binaries() is None:
        return "no PostgreSQL: set HANSE_TEST_POSTGRES to a URL, or install Debian's postgresql"
    return None


@contextmanager
def server() -> Iterator[str]:
    """URL of a server's database ``postgres``; a throw-away one is stopped and removed afterwards."""
    if "HANSE_TEST_POSTGRES" in os.environ:
        yield os.environ["HANSE_TEST_POSTGRES"]
        return
    binaries = _binaries()
    assert binaries is not None
    folder = Path(tempfile.mkdtemp(prefix="hanse-postgres-"))
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # initdb refuses root
    if os.geteuid() == 0:
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str) -> None:
        who = {"user": user, "group": pwd.getpwnam(user).pw_gid} if os.geteuid() == 0 else {}
        ended = subprocess.run(  # type: ignore[call-overload]
            command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, **who
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    data = str(folder / "data")
    run(str(binaries / "initdb"), "-D", data, "-A", "trust", "-U", user, "-N")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
    run(str(binaries / "pg_ctl"), "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://{user}@127.0.0.1:{port}/postgres"
    finally:
        run(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_database(url: str) -> Iterator[str]:
    """URL of a new, empty database on the server; dropped afterwards."""
    from sqlalchemy import create_engine, make_url, text

    name = f"hanse_{uuid.uuid4().hex}"
    place = make_url(url).set(drivername="postgresql+psycopg")
    engine = create_engine(place, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield place.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()
