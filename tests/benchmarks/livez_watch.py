"""Asks `/livez` a hundred times a second, and prints the milliseconds that each answer took.

    python tests/benchmarks/livez_watch.py HOST:PORT

It is a separate process, so that the work of a benchmark does not count as the daemon's latency.
"""

import sys
import time
from http.client import HTTPConnection


def watch(address: str) -> None:
    """Asks on one connection until the process is killed."""
    connection = HTTPConnection(address, timeout=30)
    while True:
        started = time.perf_counter()
        connection.request("GET", "/livez")
        with connection.getresponse() as response:
            response.read()
        print(f"{(time.perf_counter() - started) * 1e3:.3f}", flush=True)
        time.sleep(0.01)


if __name__ == "__main__":
    watch(sys.argv[1])
