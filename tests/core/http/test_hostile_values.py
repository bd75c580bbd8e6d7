"""Hostile headers and bodies are searched in linear time: any other would block the event loop."""

import subprocess
import sys

import pytest

#: Each would take a quadratic search minutes to hours.
SEARCHES = {
    "Retry-After": "from waitd.core.http.headers import parse_retry_after as f; f('1' + ' ' * 60_000 + 'x', 0.0)",
    "Retry-After in digits": "from waitd.core.http.headers import parse_retry_after as f; f('1' * 60_000 + 'x', 0.0)",
    "a code of AWS": "from waitd.core.http.answer import says_rate_limit as f; f(400, b'\"' + b'Throttl' * 150_000)",
    "letters": "from waitd.core.http.answer import says_rate_limit as f; f(400, b'\"Throttl' + b'a' * 1_000_000)",
    "a key's code": "from waitd.core.http.answer import refuses_credentials as f; f(400, b'\"' + b'ExpiredToken' * 90_000)",
    "quotes": "from waitd.core.http.answer import refuses_credentials as f; f(400, b'\"' * 1_000_000)",
    "a 403": "from waitd.core.http.answer import says_rate_limit as f; f(403, b'exceeded a ' * 90_000)",
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_hostile_value_is_searched_in_linear_time(name: str) -> None:
    subprocess.run([sys.executable, "-c", SEARCHES[name]], check=True, timeout=60)
