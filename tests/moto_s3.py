"""A real S3 server, moto's, on a free port."""

import contextlib
import itertools
import logging
from collections.abc import Iterator
from datetime import timedelta
from threading import Thread
from typing import Any

import botocore.session
from botocore.config import Config
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

from waitd.core.connections.connection import Connection

#: All moto servers of a process share their buckets, so each name is used once.
_NAMES = itertools.count(1)


class S3Server:
    """moto's server, and botocore's client to fill it."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        # moto's own ThreadedMotoServer does not close its socket.
        app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
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
        """Creates a bucket with these keys."""
        name = f"bucket-{next(_NAMES)}"
        self.s3.create_bucket(Bucket=name)
        for key in keys:
            self.s3.put_object(Bucket=name, Key=key, Body=b"12345")
        return name

    def put(self, bucket: str, *keys: str) -> None:
        """Adds keys directly: over HTTP, moto takes 7 ms for each."""
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
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    try:
        yield server
    finally:
        server.stop()
