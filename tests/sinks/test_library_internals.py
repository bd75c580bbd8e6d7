"""The canary for private attributes of client libraries: it fails when a new version moves them.

`waitd.sinks.brokers.library_internals` uses them; pyproject pins the libraries' minor versions.
"""

import inspect
from importlib.metadata import version

from aiobotocore.httpsession import AIOHTTPSession
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender
from nats.aio.client import Client


def test_the_installed_versions_are_those_that_were_reviewed() -> None:
    assert version("aiobotocore").startswith("3.10.")
    assert version("nats-py").startswith("2.16.")
    assert version("aiokafka").startswith("0.14.")


def test_nats_starts_tls_by_what_process_info_leaves_in_the_server_info() -> None:
    assert list(inspect.signature(Client._process_info).parameters) == ["self", "info", "initial_connection"]
    connect = inspect.getsource(Client._process_connect_init)
    hook = connect.index("await self._process_info(srv_info, initial_connection=True)")
    check = connect.index('self._server_info["tls_required"]')
    assert hook < check < connect.index("self._connect_command()")  # the password is in the command


def test_an_aiokafka_producer_has_a_sender_task_and_an_accumulator() -> None:
    producer = inspect.getsource(AIOKafkaProducer.__init__)
    assert "self._sender = Sender(" in producer
    assert "self._message_accumulator = MessageAccumulator(" in producer
    assert isinstance(Sender.sender_task, property)
    assert list(inspect.signature(MessageAccumulator.fail_all).parameters) == ["self", "exception"]


def test_an_aiobotocore_session_creates_its_connector_by_a_method() -> None:
    assert list(inspect.signature(AIOHTTPSession._create_connector).parameters) == ["self", "proxy_url"]
    assert "connector=connector" in inspect.getsource(AIOHTTPSession._get_session)
    assert "raise ConnectionClosedError(" in inspect.getsource(AIOHTTPSession.send)
