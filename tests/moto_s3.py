"""A real S3 server (moto's) on a free port, with its buckets and keys."""

import contextlib
import itertools
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import botocore.session
from botocore.config import Config
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from waitd.core.connections.connection import Connection

#: moto keeps one memory for all its servers of a process, so no name is given twice.
_NAMES = itertools.count(1)


class S3Server:
    """moto, and botocore's client to fill it with."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._moto.start()
        host, port = self._moto.get_host_and_port()
        self.url = f"http://{host}:{port}"
        self.s3 = self.client("s3")

    def client(self, service: str) -> Any:
        session = botocore.session.Session()
        return session.create_client(
            service,
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id="AKIA",
            aws_secret_access_key="secret",
            config=Config(s3={"addressing_style": "path"}),
        )

    def bucket(self, *keys: str) -> str:
        """A new bucket with these keys."""
        name = f"bucket-{next(_NAMES)}"
        self.s3.create_bucket(Bucket=name)
        for key in keys:
            self.s3.put_object(Bucket=name, Key=key, Body=b"12345")
        return name

    def put(self, bucket: str, *keys: str) -> None:
        """Adds keys, past HTTP: moto takes 7 ms a request."""
        store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for key in keys:
            store.put_object(bucket, key, b"12345")

    def age(self, bucket: str) -> None:
        """Makes every key an hour old."""
        for key in s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[bucket].keys.values():
            key.last_modified -= timedelta(hours=1)

    def delete(self, bucket: str, *keys: str) -> None:
        for key in keys:
            self.s3.delete_object(Bucket=bucket, Key=key)

    def connection(
        self, login: str | None = "AKIA", password: str | None = "secret", **extra: Any
    ) -> Connection:
        return Connection(
            "aws_default", "aws", login=login, password=password, extra={"endpoint_url": self.url} | extra
        )

    def stop(self) -> None:
        self.s3.close()
        self._moto.stop()


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    try:
        yield server
    finally:
        server.stop()
