"""Configures logging: one line for each event, as JSON or in colour, with secrets masked.

Logs go to standard error. Standard output is for the results of commands.
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
    """Masks values with secret-like names, and strips credentials and queries from URLs."""
    for name, value in event.items():
        if _SECRET_NAME.search(name) and value is not None:
            event[name] = MASK
        elif isinstance(value, str) and "://" in value:
            event[name] = _URL_SECRETS.sub(r"\g<scheme>\g<rest>", value)
    return event


def configure(*, level: str = "info", log_format: str = "auto", version: str = "") -> None:
    """Configures structlog for this process.

    `log_format` is json, console, or auto: console if standard error is a terminal, else json.
    Every line contains `version`, unless it is empty.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    threshold = getattr(logging, level.upper())
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
            wrapper_class=structlog.make_filtering_bound_logger(threshold),
            logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, structlog.processors.JSONRenderer(serializer=orjson.dumps)],
            wrapper_class=structlog.make_filtering_bound_logger(threshold),
            logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
            cache_logger_on_first_use=True,
        )
    if version:
        structlog.contextvars.bind_contextvars(version=version)
    # Libraries use the standard library's logging. Only their warnings and errors are logged.
    logging.basicConfig(
        level=max(threshold, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )
