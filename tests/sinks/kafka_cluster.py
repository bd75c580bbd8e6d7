"""librdkafka's mock cluster, which implements Kafka's wire protocol.

It is used through its C interface, because only that takes a broker down and injects errors. It
has topics that are created on first use, partitions with a log, and idempotent producers. It has
no authentication, TLS, ACLs, size limits or disk.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

#: Error codes of the protocol.
UNKNOWN_TOPIC, MESSAGE_TOO_LARGE, NOT_ENOUGH_REPLICAS, TOPIC_FORBIDDEN = 3, 10, 19, 29
_PRODUCER, _PRODUCE = 0, 0
_BROKER = 1


@cache
def _library() -> Any:
    """The library that is bundled with confluent-kafka."""
    import confluent_kafka

    libraries = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    (path,) = libraries.glob("librdkafka-*.so*")
    library = ctypes.CDLL(str(path))
    pointer = ctypes.c_void_p
    for name, result, arguments in (
        ("conf_new", pointer, ()),
        ("new", pointer, (ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t)),
        ("set_log_level", None, (pointer, ctypes.c_int)),
        ("destroy", None, (pointer,)),
        ("mock_cluster_new", pointer, (pointer, ctypes.c_int)),
        ("mock_cluster_destroy", None, (pointer,)),
        ("mock_cluster_bootstraps", ctypes.c_char_p, (pointer,)),
        ("mock_broker_set_down", ctypes.c_int, (pointer, ctypes.c_int32)),
        ("mock_broker_set_up", ctypes.c_int, (pointer, ctypes.c_int32)),
        ("mock_topic_set_error", None, (pointer, ctypes.c_char_p, ctypes.c_int)),
        (
            "mock_push_request_errors_array",
            None,
            (pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)),
        ),
    ):
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class KafkaCluster:
    """One broker in this process. `kill` takes it down, `start` up again; its log survives that."""

    def __init__(self, _: Path) -> None:
        self._client: int | None = None
        self._cluster: int | None = None
        self.port = 0

    def start(self) -> None:
        library = _library()
        if self._cluster is not None:
            assert library.rd_kafka_mock_broker_set_up(self._cluster, _BROKER) == 0
            return
        error = ctypes.create_string_buffer(512)
        self._client = library.rd_kafka_new(_PRODUCER, library.rd_kafka_conf_new(), error, len(error))
        assert self._client, error.value
        library.rd_kafka_set_log_level(self._client, 0)
        self._cluster = library.rd_kafka_mock_cluster_new(self._client, 1)
        address: bytes = library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.port = int(address.rpartition(b":")[2])

    def kill(self) -> None:
        """Closes every connection and accepts no new one."""
        assert _library().rd_kafka_mock_broker_set_down(self._cluster, _BROKER) == 0

    def end(self) -> None:
        if self._cluster is not None:
            _library().rd_kafka_mock_cluster_destroy(self._cluster)
            _library().rd_kafka_destroy(self._client)
            self._cluster = self._client = None

    def fail_topic(self, topic: str, code: int) -> None:
        """Answers requests for the topic with this error code; 0: as usual."""
        _library().rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), code)

    def fail_produce(self, codes: Sequence[int]) -> None:
        """Answers the next produce requests with these error codes."""
        errors = (ctypes.c_int * len(codes))(*codes)
        _library().rd_kafka_mock_push_request_errors_array(self._cluster, _PRODUCE, len(codes), errors)
