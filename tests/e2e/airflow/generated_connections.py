"""Prints generated connections in their written forms, and what Airflow's two classes read in each.

Runs in Airflow's own Python: `python generated_connections.py SEED NUMBER FILE`. Each line of the
file is a JSON object: `value`, and `core` and `sdk`, each an object of fields, or null if refused.
What Airflow misreads is left out: a scheme with an underscore, a host's protocol that is also the
type, and an @ in a host.
"""

import json
import logging
import random
import string
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow.models.connection import Connection as CoreConnection
from airflow.sdk import Connection as SdkConnection

FIELDS = ("conn_type", "host", "port", "schema", "login", "password")
ODD = "äß€漢😀%+&=?#@:/;,'\"[]{}()<>~ \\|^`$!*._-"
HOSTS = ("", "example.org", "Example.ORG", "10.0.0.1", "h_1.internal", "https://example.org", "http://Example.org/api", "https://h/a/b", "::1", "2001:db8::1", "xn--bcher-kva.example")  # fmt: skip
TYPES = ("http", "https", "aws", "google_cloud_platform", "google-cloud-platform", "postgres", "postgresql", "wasb", "x", "my_type")  # fmt: skip
EXTRAS: tuple[Any, ...] = ("", "plain", "0012", "7", "true", "null", "1e5", '{"a": 1}', "[1, 2]", "{x", "a&b=c", "ü %2F+", 7, 1.5, True, None, [1, "a"], {"a": {"b": "c"}})  # fmt: skip


def text(dice: random.Random) -> str:
    alphabet = dice.choice((string.ascii_letters + string.digits, ODD, string.printable[:95] + ODD))
    return "".join(dice.choice(alphabet) for _ in range(dice.randrange(12)))


def fields(dice: random.Random) -> dict[str, Any]:
    extra = {dice.choice((text(dice) or "k", "token", "X-Api-Key", "headers")): dice.choice(EXTRAS) for _ in range(dice.randrange(4))}  # fmt: skip
    return {
        "conn_type": dice.choice(TYPES),
        "host": dice.choice((*HOSTS, text(dice).replace("@", ""), None)),
        "login": dice.choice((None, "", "user", text(dice))),
        "password": dice.choice((None, "", "pass", text(dice))),
        "schema": dice.choice((None, "", "https", text(dice))),
        "port": dice.choice((None, None, 0, 1, 8080, 65535)),
        "extra": dice.choice((None, json.dumps(extra))),
    }


def written(dice: random.Random) -> str:
    """One connection in one of its forms: a URI or JSON, by a class or by hand."""
    given = fields(dice)
    form = dice.randrange(6)
    if form == 0:
        return str(CoreConnection(conn_id="c", **given).get_uri())
    if form == 1:
        return str(SdkConnection(conn_id="c", **given).get_uri())
    if form == 2:
        return str(CoreConnection(conn_id="c", **given).as_json())
    if form == 3:
        return str(SdkConnection(conn_id="c", **given).as_json())
    if form == 4:
        extra = json.loads(given["extra"] or "{}")
        return json.dumps({**given, "extra": dice.choice((extra, given["extra"])), "port": dice.choice((given["port"], str(given["port"] or "")))})  # fmt: skip
    return by_hand(dice, given)


def by_hand(dice: random.Random, given: dict[str, Any]) -> str:
    """A URI as people write them: little is percent-encoded, and that not everywhere."""

    def encoded(value: str | None) -> str:
        return quote(value or "", safe=dice.choice(("", "/", "+&=", "!$'()*,;")))

    login = "" if given["login"] is None else encoded(given["login"])
    password = "" if given["password"] is None else ":" + encoded(given["password"])
    conn_type, host = given["conn_type"].replace("_", "-"), given["host"] or ""
    host = host.removeprefix(f"{conn_type}://")
    host = host if "://" in host and "/" not in host.partition("://")[2] else encoded(host)
    at = "@" if login or password else ""
    protocol, separator, rest = host.rpartition("://")
    port = f":{given['port']}" if given["port"] is not None else ""
    query = dice.choice(("", "?a=1&b=x%20y&c=", "?headers=%7B%22X-A%22%3A%20%22b%22%7D", "?__extra__=%7B%22a%22%3A%20%5B1%5D%7D", "?token=a+b%2Bc"))  # fmt: skip
    return f"{conn_type}://{protocol}{separator}{login}{password}{at}{rest}{port}/{encoded(given['schema'])}{query}"


def read(of: Any, value: str) -> dict[str, Any] | None:
    try:
        if value.startswith("{"):
            connection = of.from_json(value, conn_id="c")
        elif of is CoreConnection:
            connection = of(conn_id="c", uri=value)
        else:
            connection = of.from_uri(value, conn_id="c")
        return {**{name: getattr(connection, name) for name in FIELDS}, "extra": connection.extra_dejson}
    except Exception:  # noqa: BLE001 - every refusal is one
        return None


def main() -> None:
    logging.disable(logging.CRITICAL)
    seed, number, file = sys.argv[1:]
    dice = random.Random(int(seed))
    with Path(file).open("w", encoding="utf-8") as output:
        for _ in range(int(number)):
            value = written(dice)
            both = {"core": read(CoreConnection, value), "sdk": read(SdkConnection, value)}
            output.write(json.dumps({"value": value, **both}) + "\n")


if __name__ == "__main__":
    main()
