"""structlog, set up once: one line an event, JSON for machines, colours for a terminal, and no secret in either.

Everything goes to standard error; standard output belongs to the CLI's answers.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

_SECRET_NAME = re.compile(r"password|passwd|secret|token|authorization|api[-_]?key|cookie", re.IGNORECASE)
_URL_SECRETS = re.compile(r"(?P<scheme>https?://)(?:[^/\s@]*@)?(?P<rest>[^\s?#'\"]*)(?:\?[^\s'\"]*)?")
MASK = "***"


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Masks values under secret-looking names, and userinfo and query strings of URLs in any text."""
    for name, value in event.items():
        if _SECRET_NAME.search(name) and value is not None:
            event[name] = MASK
        elif isinstance(value, str) and "://" in value:
            event[name] = _URL_SECRETS.sub(r"\g<scheme>\g<rest>", value)
    return event


def configure(*, level: str = "info", log_format: str = "auto", version: str = "") -> None:
    """Sets structlog up for this process. `log_format`: json, console, or auto (console where standard error is a terminal)."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    numeric = getattr(logging, level.upper())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    if console:
        structlog.configure(
            processors=[*shared, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())],
            wrapper_class=structlog.make_filtering_bound_logger(numeric),
            logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, structlog.processors.JSONRenderer(serializer=orjson.dumps)],
            wrapper_class=structlog.make_filtering_bound_logger(numeric),
            logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
            cache_logger_on_first_use=True,
        )
    if version:
        structlog.contextvars.bind_contextvars(version=version)
    # Libraries log through the standard library; what they say of warnings and worse is worth a line, the rest is not.
    logging.basicConfig(
        level=max(numeric, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )
