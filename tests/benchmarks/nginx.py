"""nginx with a private CA, on free ports of all addresses."""

import asyncio
import shutil
import socket
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import trustme
from open_connection import accepts_connections

from waitd.bench.children import check_running, child, free_port

BODY = '{"job":{"id":"x","state":"RUNNING","progress":0.5},"rows":0}'
#: The suffix of the hosts, which resolve to 127.0.0.1 everywhere (RFC 6761).
SUFFIX = "bench.localhost"
HOST = socket.gethostname()

_CLOSING = "keepalive_timeout 0; access_log {folder}/{name} reused;"
_NO_SESSIONS = "ssl_session_tickets off; ssl_session_cache off;"
#: The servers: each has its directives.
SERVERS: Mapping[str, str] = {
    "http": "",
    "closing": "keepalive_timeout 0;",
    "https": "",
    "1.2 full": "ssl_protocols TLSv1.2;" + _NO_SESSIONS + _CLOSING,
    "1.2 resumed": "ssl_protocols TLSv1.2;" + _CLOSING,
    "1.3 full": "ssl_protocols TLSv1.3;" + _NO_SESSIONS + _CLOSING,
    "1.3 resumed": "ssl_protocols TLSv1.3;" + _CLOSING,
}
_CONFIG = """daemon off; master_process off; pid {folder}/pid; user root; error_log {folder}/error; worker_rlimit_nofile 30000;
events {{ worker_connections 10000; }}
http {{
  access_log off; log_format reused '$ssl_session_reused'; keepalive_timeout 75s; keepalive_requests 100000000;
  default_type application/json;
{servers}
}}
"""
_SERVER = """  server {{ listen {port}{tls} backlog=4096; {directives}
    location / {{ return 200 '{body}'; }} }}"""
_TLS = " ssl"


class Nginx(NamedTuple):
    """A running nginx.

    Attributes:
        ports: by the names of `SERVERS`.
        authority: the file with the authority of its certificates.
    """

    ports: Mapping[str, int]
    authority: Path
    folder: Path

    def url(self, server: str, host: int = 0) -> str:
        """The URL of one of its hosts, without a path."""
        return f"{_scheme(server)}://h{host}.{SUFFIX}:{self.ports[server]}"

    def own_url(self, server: str) -> str:
        """The URL by this machine's name, which is not one of loopback."""
        return f"{_scheme(server)}://{HOST}:{self.ports[server]}"

    def resumed(self, server: str) -> Counter[str]:
        """How many connections of a closing server were resumed (`r`), and how many not (`.`)."""
        return Counter((self.folder / server.replace(" ", "-")).read_text().split())


def _scheme(server: str) -> str:
    return "http" if server in {"http", "closing"} else "https"


@asynccontextmanager
async def running_nginx(cores: Collection[int]) -> AsyncIterator[Nginx]:
    """Runs nginx; raises FileNotFoundError if it is missing (`apt-get install nginx-light`)."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise FileNotFoundError("nginx is not installed: apt-get install nginx-light")
    with TemporaryDirectory(prefix="waitd-nginx-") as home:
        folder = Path(home)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        certificate = authority.issue_cert(f"*.{SUFFIX}", HOST)
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        ports = {name: free_port() for name in SERVERS}
        (folder / "conf").write_text(_config(folder, ports))
        async with child(
            ["-p", home, "-c", str(folder / "conf")], log=folder / "log", python=[program], cores=cores
        ) as process:
            while not await accepts_connections(ports["http"]):
                check_running(process, folder / "log")
                await asyncio.sleep(0.05)
            yield Nginx(ports, folder / "ca.pem", folder)


def _config(folder: Path, ports: Mapping[str, int]) -> str:
    certificate = f"ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;"
    servers = []
    for name, directives in SERVERS.items():
        tls = _scheme(name) == "https"
        own = directives.format(folder=folder, name=name.replace(" ", "-"))
        servers.append(
            _SERVER.format(
                port=ports[name],
                tls=_TLS if tls else "",
                directives=f"{certificate} {own}" if tls else own,
                body=BODY,
            )
        )
    return _CONFIG.format(folder=folder, servers="\n".join(servers))
