"""A job API: answers about its job, a condition that is true of `DONE`, and a connection to it."""

from raw_server import answer

from waitd.core.connections.connection import Connection

DONE = answer(200, b'{"state": "done", "n": 1}')
HUGE = b'{"state": "done", "x": "' + b"x" * (1 << 20) + b'"}'
#: The head of an answer whose body is chunked.
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
IS_DONE = {"success_when": "body.state == 'done'"}
BY_CONNECTION = {"endpoint": "jobs/1", "http_conn_id": "job_api"}


def job_api(url: str, token: str = "old") -> Connection:
    return Connection("job_api", host=url, password=token, extra={"auth_type": "bearer"})
