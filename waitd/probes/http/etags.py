"""Conditional requests: caches ETags of "not yet" answers, so that a 304 repeats the verdicts.

A 304 costs the target less, and GitHub does not count it against the rate limit. An entry exists
only while the last answer left all its waits pending. Answers without an ETag and answers to signed
requests have none, and no entry is stored on disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace
from multidict import CIMultiDict

from waitd.core.bounded_dict import BoundedDict
from waitd.core.waits.verdict import Pending
from waitd.probes.cel.conditions import Conditions
from waitd.probes.http.params import HttpTarget
from waitd.probes.transport.client import HttpAnswer, Request
from waitd.probes.transport.response import Http1Response

#: The most entries; above that the oldest one is dropped.
MAX_ENTRIES = 10_000
#: After this many 304s in a row the full answer is requested: some servers keep an ETag while the
#: answer changes.
MAX_NOT_MODIFIED = 10
_MAX_ETAG = 256


@dataclass(slots=True)
class EtagEntry:
    """An answer: its ETag, its verdicts by conditions, and how many more 304s are accepted."""

    etag: str
    verdicts: dict[Conditions, Pending]
    left: int = MAX_NOT_MODIFIED

    def add_to(self, request: Request) -> Request:
        """Makes a request conditional on the ETag."""
        headers = CIMultiDict(request.headers or ())
        headers["If-None-Match"] = self.etag
        return replace(request, headers=headers)


class EtagCache:
    """Entries by the key of their targets.

    `entries` is public for a quick check that it is empty.
    """

    def __init__(self) -> None:
        self.entries: BoundedDict[str, EtagEntry] = BoundedDict(MAX_ENTRIES)

    def find(self, targets: Sequence[HttpTarget]) -> EtagEntry | None:
        """Finds the entry of targets with one key; None when it lacks a verdict for one of them."""
        entry = self.entries.get(targets[0].key)
        if (
            entry is None
            or entry.left <= 0
            or any(target.conditions not in entry.verdicts for target in targets)
        ):
            return None
        return entry

    def not_modified(self, targets: Sequence[HttpTarget], entry: EtagEntry) -> list[Pending]:
        """Returns the verdicts of a 304."""
        entry.left -= 1
        return [entry.verdicts[target.conditions] for target in targets]

    def store(self, targets: Sequence[HttpTarget], answer: HttpAnswer, verdicts: Sequence[object]) -> None:
        """Replaces the entry by an answer with status 200, or removes it."""
        target, response = targets[0], answer.response
        etag = response.etag if type(response) is Http1Response else response.headers.get("ETag")
        if self.entries:
            self.entries.pop(target.key, None)
        if etag is None or not _is_usable(etag) or not target.key or target.template.method != "GET":
            return
        if any(type(verdict) is not Pending for verdict in verdicts):
            return
        if any(name.lower() == "if-none-match" for name, _ in target.template.headers):
            return  # the wait makes its request conditional itself
        pairs = zip(targets, verdicts, strict=True)
        self.entries[target.key] = EtagEntry(
            etag, {each.conditions: verdict for each, verdict in pairs if isinstance(verdict, Pending)}
        )


def _is_usable(etag: str) -> bool:
    return len(etag) <= _MAX_ETAG and etag.isascii() and etag.isprintable()
