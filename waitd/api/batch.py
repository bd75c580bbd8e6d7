"""`POST /v1/waits:batch`: many waits, one durable commit, one answer line each, in order."""

import orjson
from aiohttp import web

from waitd.api.admission import Admission
from waitd.api.bodies import Turns, read_lines
from waitd.api.guard import NDJSON
from waitd.api.problems import refusal, refusal_of
from waitd.api.requests import namespace_of, refuse_while_draining
from waitd.api.services import Services
from waitd.api.submissions import Draft, Submissions, decoded, refuse_unknown, unknown_connections
from waitd.core.errors import Conflict, InvalidInput
from waitd.models import MAX_BODY
from waitd.ports import Added

#: A line on its way: a wait to be stored, or the answer that it got already.
Entry = Draft | bytes


class Batches:
    """The batch handler."""

    def __init__(self, services: Services, submissions: Submissions, admission: Admission) -> None:
        self._services = services
        self._submissions = submissions
        self._admission = admission

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """200 with a line each; the status of the whole says only whether the commit went through."""
        refuse_while_draining(self._services.health)
        if "Idempotency-Key" in request.headers:
            raise InvalidInput.at(
                "", "in a batch each line carries its own idempotency_key; leave out the header"
            )
        entries = await self._read(request)
        await self._refuse_unknown_connections(entries)
        refuse_while_draining(self._services.health)
        await self._store(entries)
        body = b"".join(entry + b"\n" for entry in entries if isinstance(entry, bytes))
        return web.Response(body=body, headers={"Content-Type": NDJSON})

    async def _read(self, request: web.Request) -> list[Entry]:
        namespace, turns = namespace_of(request), Turns()
        entries: list[Entry] = []
        async for lines in read_lines(request):
            for line in lines:
                entries.append(self._entry(line, namespace))
                if turns.over():
                    await turns.next_turn()
        return entries

    def _entry(self, line: bytes | None, namespace: str) -> Entry:
        if line is None:
            return _refused(refusal("too-large", f"at most {MAX_BODY} bytes a line"))
        try:
            return self._submissions.batch_draft(decoded(line), namespace)
        except InvalidInput as error:
            return _refused(error)

    async def _refuse_unknown_connections(self, entries: list[Entry]) -> None:
        asked = {name.conn_id for entry in entries if isinstance(entry, Draft) for name in entry.unseen}
        unknown = await unknown_connections(self._services.connections, asked) if asked else frozenset()
        for index, entry in enumerate(entries) if unknown else ():
            try:
                if isinstance(entry, Draft):
                    refuse_unknown(entry, unknown)
            except InvalidInput as error:
                entries[index] = _refused(error)

    async def _store(self, entries: list[Entry]) -> None:
        """Stores what there is room for, the first lines first, and puts each line's answer in its place."""
        drafts = [(index, entry.new) for index, entry in enumerate(entries) if isinstance(entry, Draft)]
        with self._admission.seats(len(drafts)) as seats:
            stored = drafts[:seats]
            results = await self._services.store.add([new for _, new in stored]) if stored else ()
        turns = Turns()
        for (index, _), result in zip(stored, results, strict=True):
            entries[index] = _answer(result)
            if turns.over():
                await turns.next_turn()
        over_capacity = _refused(refusal("over-capacity", "try this line again later"))
        for index, _ in drafts[seats:]:
            entries[index] = over_capacity


def _answer(result: Added | Exception) -> bytes:
    match result:
        case Added():
            return orjson.dumps({"status": 201 if result.created else 200, "id": result.wait.id})
        case Conflict():
            return _refused(refusal("idempotency-key-reused", str(result)))
        case _:
            return _refused(result)


def _refused(error: Exception) -> bytes:
    problem = refusal_of(error)
    return orjson.dumps({"status": problem.status, "problem": problem.body})
