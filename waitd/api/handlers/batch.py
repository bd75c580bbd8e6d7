"""`POST /v1/waits:batch`: many waits, one durable commit, one answer line each, in order."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import orjson
from aiohttp import web

from waitd.api.callers import namespace_of, principal_of
from waitd.api.handlers.audit import SUBJECTS, caller_of
from waitd.api.problems import refusal, refusal_of
from waitd.api.requests import refuse_while_draining
from waitd.api.server.bodies import Turns, decoded, read_lines
from waitd.api.server.loopback_guard import NDJSON
from waitd.api.services import Services
from waitd.api.submission.admission import Admission
from waitd.api.submission.draft import ValidatedWait
from waitd.api.submission.idempotency import keyed
from waitd.api.submission.validation import Submissions, refuse_unknown, unknown_connections
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL, Principal
from waitd.core.errors import Conflict, InvalidInput
from waitd.core.waits.audit import Caller
from waitd.models import MAX_BODY
from waitd.ports import IdempotentSubmit, Inserted

#: How many batches are read and stored at the same time, since each may take up some hundred MiB; and how many more may wait for that.
AT_ONCE = 8
IN_LINE = 64
#: After how many lines that cost next to nothing it is looked whether others are to have their turn.
LOOKED_AFTER = 16
#: How many of both one caller may have, where callers are told apart.
OF_ONE_CALLER = AT_ONCE // 2


class Refused(NamedTuple):
    """A line that is not taken: its answer, and what it may have been taken under before. `mend`: whether the line itself is wrong."""

    answer: bytes
    keyed: IdempotentSubmit | None = None
    mend: bool = True


#: A line on its way: a wait to be stored, a refusal, or its final answer.
Entry = ValidatedWait | Refused | bytes


class Batches:
    """The batch handler."""

    def __init__(self, services: Services, submissions: Submissions, admission: Admission) -> None:
        self._services = services
        self._submissions = submissions
        self._admission = admission
        self._places = asyncio.Semaphore(AT_ONCE)
        self._in_line = 0
        self._by_caller: Counter[str] = Counter()

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """200 with a line each; the status of the whole says only whether the commit went through."""
        refuse_while_draining(self._services.health)
        if "Idempotency-Key" in request.headers:
            raise InvalidInput.at(
                "", "in a batch each line carries its own idempotency_key; leave out the header"
            )
        async with self._place(principal_of(request)):
            entries = await self._read(request)
            await self._refuse_unknown_connections(entries)
            refuse_while_draining(self._services.health)
            request[SUBJECTS] = await self._store(entries, caller_of(request))
            body = b"".join([entry if isinstance(entry, bytes) else _refused(entry) for entry in entries])
        return web.Response(body=body, headers={"Content-Type": NDJSON})

    @asynccontextmanager
    async def _place(self, principal: Principal) -> AsyncIterator[None]:
        """A place among those at work, after those that came before. One of several callers cannot have all of them."""
        if principal is LOOPBACK_PRINCIPAL:
            async with self._one_of_all():
                yield
            return
        if self._by_caller[principal.name] >= OF_ONE_CALLER:
            raise refusal("too-many-batches", f"{OF_ONE_CALLER} of yours arrive already; nothing was stored")
        self._by_caller[principal.name] += 1
        try:
            async with self._one_of_all():
                yield
        finally:
            self._by_caller[principal.name] -= 1
            if not self._by_caller[principal.name]:
                del self._by_caller[principal.name]

    @asynccontextmanager
    async def _one_of_all(self) -> AsyncIterator[None]:
        if self._in_line >= IN_LINE:
            raise refusal("too-many-batches", "nothing was stored; send it again")
        self._in_line += 1
        try:
            await self._places.acquire()
        finally:
            self._in_line -= 1
        try:
            yield
        finally:
            self._places.release()

    async def _read(self, request: web.Request) -> list[Entry]:
        namespace, turns, usual_line = namespace_of(request), Turns(), self._submissions.usual.line
        entries: list[Entry] = []
        try:
            async for lines in read_lines(request):
                for line in lines.texts:
                    draft = None if line is None else usual_line(line, namespace, plain=lines.plain)
                    entries.append(draft or await self._entry(line, namespace))
                    if (draft is None or len(entries) % LOOKED_AFTER == 0) and turns.over():
                        await turns.next_turn()
        finally:
            self._services.throttle.charge(principal_of(request), len(entries), request.content.total_bytes)
        return entries

    async def _entry(self, line: bytes | None, namespace: str) -> ValidatedWait | Refused:
        if line is None:
            return Refused(_refusal(refusal("too-large", f"at most {MAX_BODY} bytes a line")))
        raw = key = None
        try:
            raw = decoded(line)
            key = raw.get("idempotency_key") if isinstance(raw, dict) else None
            return await self._submissions.batch_draft(raw, namespace)
        except InvalidInput as error:
            if isinstance(raw, dict):
                raw.pop("idempotency_key", None)
            return Refused(_refusal(error), keyed(raw, namespace, key))

    async def _refuse_unknown_connections(self, entries: list[Entry]) -> None:
        looked_at = [entry for entry in entries if isinstance(entry, ValidatedWait) and entry.unseen]
        asked = {name.conn_id for entry in looked_at for name in entry.unseen}
        unknown = await unknown_connections(self._services.connections, asked) if asked else frozenset()
        for index, entry in enumerate(entries) if unknown else ():
            if not isinstance(entry, ValidatedWait):
                continue
            try:
                refuse_unknown(entry, unknown)
            except InvalidInput as error:
                entries[index] = Refused(_refusal(error), _key_of(entry))

    async def _store(self, entries: list[Entry], by: Caller) -> int:
        """Stores what there is room for, the first lines first, and puts each line's answer in its place; returns how many are new."""
        drafts = [(index, entry) for index, entry in enumerate(entries) if isinstance(entry, ValidatedWait)]
        over_capacity = _refusal(refusal("over-capacity", "try this line again later"))
        with self._admission.seats(len(drafts)) as seats:
            for index, draft in drafts[seats:]:
                entries[index] = Refused(over_capacity, _key_of(draft), mend=False)
            # Before anything is stored: where it fails, it fails for the whole.
            await self._find_replays(entries)
            stored = drafts[:seats]
            results = (
                await self._services.store.insert([draft.new for _, draft in stored], by) if stored else ()
            )
        turns = Turns()
        for (index, _), result in zip(stored, results, strict=True):
            entries[index] = _answer(result)
            if index % LOOKED_AFTER == 0 and turns.over():
                await turns.next_turn()
        return sum(isinstance(result, Inserted) and result.created for result in results)

    async def _find_replays(self, entries: list[Entry]) -> None:
        """Lines that are refused now and were taken before get the answer of a replay, whatever has changed since."""
        refused = [
            (index, entry, entry.keyed)
            for index, entry in enumerate(entries)
            if isinstance(entry, Refused) and entry.keyed is not None
        ]
        if not refused:
            return
        found = await self._services.store.replays([submit for _, _, submit in refused])
        for (index, entry, _), before in zip(refused, found, strict=True):
            if isinstance(before, Inserted) or (isinstance(before, Conflict) and not entry.mend):
                entries[index] = _answer(before)


def _key_of(draft: ValidatedWait) -> IdempotentSubmit | None:
    new = draft.new
    if new.idempotency_key is None or new.body_digest is None:
        return None
    return IdempotentSubmit(new.namespace, new.idempotency_key, new.body_digest)


def _answer(result: Inserted | Exception) -> bytes:
    match result:
        case Inserted():
            return b'{"status":%d,"id":"%b"}\n' % (201 if result.created else 200, result.wait.id.encode())
        case Conflict():
            return _refusal(refusal("idempotency-key-reused", str(result)))
        case _:
            return _refusal(result)


def _refusal(error: Exception) -> bytes:
    problem = refusal_of(error)
    return orjson.dumps({"status": problem.status, "problem": problem.body}, option=orjson.OPT_APPEND_NEWLINE)


def _refused(entry: ValidatedWait | Refused) -> bytes:
    if isinstance(entry, ValidatedWait):  # each was stored or refused
        raise AssertionError("a line of the batch was left without an answer")  # noqa: TRY004 - a defect of ours
    return entry.answer
