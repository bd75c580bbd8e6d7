"""`POST /v1/waits:batch`: many waits in one durable commit, and an answer per line, in order."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

import orjson
from aiohttp import web

from waitd.api.authentication import PRINCIPAL
from waitd.api.dependencies import ApiDependencies, refuse_while_draining
from waitd.api.handlers.audit import SUBJECTS, caller_of
from waitd.api.handlers.lists import StreamedAnswer
from waitd.api.problems import classify_error, refusal
from waitd.api.server.bodies import read_lines
from waitd.api.server.loopback_guard import NDJSON
from waitd.api.server.turns import Turns
from waitd.api.submission.admission import Admission
from waitd.api.submission.batch_slots import BatchSlots
from waitd.api.submission.findings import find_unknown
from waitd.api.submission.validation import BATCH_LINE, RefusedBody, Submissions, ValidatedWait
from waitd.core.auth.quotas import Resource
from waitd.core.errors import Conflict, DiskNearlyFull, InvalidInput, LimitReached, Problem
from waitd.core.waits.audit import Caller
from waitd.models import MAX_BODY
from waitd.ports import IdempotentSubmit, Inserted

#: After how many bytes of answers to invalid lines the further ones are brief.
MAX_REFUSALS = 4 * 1024 * 1024
#: The longest pointer and the longest detail in a brief answer, in characters.
MAX_BRIEF = 100
#: How many lines of the answer are joined at a time.
LINES_PER_PIECE = 250
#: After how many lines the batch checks whether to yield to the event loop.
LINES_PER_CHECK = 8


class RefusedLine(NamedTuple):
    """A line that is not accepted, and its answer.

    Attributes:
        replay: what the line may have been accepted as earlier.
        invalid: whether the line itself is wrong, and not only refused for now.
    """

    answer: bytes
    replay: IdempotentSubmit | None = None
    invalid: bool = True


#: A line in progress: a wait to store, a refusal, or its final answer.
BatchEntry = ValidatedWait | RefusedLine | bytes


class BatchHandlers:
    """The handler of `/v1/waits:batch`."""

    def __init__(self, dependencies: ApiDependencies, submissions: Submissions, admission: Admission) -> None:
        self._dependencies = dependencies
        self._submissions = submissions
        self._admission = admission
        self._slots = BatchSlots()

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Answers 200 with one line per line; with any other status, nothing was stored."""
        refuse_while_draining(self._dependencies.health)
        if "Idempotency-Key" in request.headers:
            raise InvalidInput.at(
                "", "in a batch each line carries its own idempotency_key; leave out the header"
            )
        with self._dependencies.throttle.hold(Resource.BATCHES, request[PRINCIPAL]):
            return await self._submit(request)

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        async with self._slots.slot(request[PRINCIPAL].namespace):
            entries = await self._read(request)
            await self._refuse_unknown_connections(entries)
            refuse_while_draining(self._dependencies.health)
            request[SUBJECTS] = await self._store(entries, caller_of(request))
        # The caller holds its share until it has read the answer, but no slot that others wait for.
        return await StreamedAnswer(request, content_type=NDJSON, separator=b"").send(_pieces(entries))

    async def _read(self, request: web.Request) -> list[BatchEntry]:
        namespace, validate = request[PRINCIPAL].namespace, self._submissions.validate
        turns = Turns(namespace)
        refusals = LineRefusals()
        entries: list[BatchEntry] = []
        try:
            async for lines, plain in read_lines(request):
                for line in lines:
                    try:
                        entries.append(
                            _TOO_LONG
                            if line is None
                            else await validate(line, namespace, form=BATCH_LINE, plain=plain)
                        )
                    except RefusedBody as error:
                        entries.append(RefusedLine(refusals.answer(error), error.replay))
                    if len(entries) % LINES_PER_CHECK == 0 and turns.over():
                        await turns.next_turn()
        finally:
            self._dependencies.throttle.charge(request[PRINCIPAL], len(entries), request.content.total_bytes)
        return entries

    async def _refuse_unknown_connections(self, entries: list[BatchEntry]) -> None:
        waits = [entry for entry in entries if isinstance(entry, ValidatedWait) and entry.uncached]
        if not waits:
            return
        uncached = {named.conn_id for wait in waits for named in wait.uncached}
        unknown = await find_unknown(self._dependencies.connections, uncached)
        for index, entry in enumerate(entries) if unknown else ():
            if not isinstance(entry, ValidatedWait):
                continue
            try:
                entry.refuse_unknown(unknown)
            except RefusedBody as error:
                entries[index] = RefusedLine(_answer_error(error), error.replay)

    async def _store(self, entries: list[BatchEntry], by: Caller) -> int:
        """Stores the waits that there is room for, first lines first, and sets each entry's answer.

        Returns:
            How many waits are new.
        """
        waits = [(index, entry) for index, entry in enumerate(entries) if isinstance(entry, ValidatedWait)]
        throttle = self._dependencies.throttle
        granted, reached = throttle.take_waits(by.principal, len(waits))
        with self._admission.seats(granted) as seats:
            refused: Exception = refusal("over-capacity", "try this line again later")
            if seats == granted and reached is not None:
                refused = reached
                throttle.count(by.principal, reached.limit, len(waits) - granted)
            stored = waits[:seats]
            if stored and (disk_full := self._take_room(stored)):
                stored, refused = [], disk_full
            answer = _answer_error(refused)
            for index, wait in waits[len(stored) :]:
                entries[index] = RefusedLine(answer, wait.replay, invalid=False)
            if len(stored) < len(entries):  # some are refused
                # Before anything is stored: a failure here fails the whole batch.
                await self._answer_replays(entries)
            results = (
                await self._dependencies.store.insert([wait.new for _, wait in stored], by) if stored else ()
            )
        turns = Turns(by.principal.namespace)
        for (index, _), result in zip(stored, results, strict=True):
            entries[index] = _answer(result)
            if index % LINES_PER_CHECK == 0 and turns.over():
                await turns.next_turn()
        for limit, times in Counter(
            result.limit for result in results if isinstance(result, LimitReached)
        ).items():
            throttle.count(by.principal, limit, times)
        return sum(isinstance(result, Inserted) and result.created for result in results)

    def _take_room(self, waits: Sequence[tuple[int, ValidatedWait]]) -> DiskNearlyFull | None:
        """Takes room on the disk for the waits; returns why there is none."""
        try:
            self._dependencies.disk.take(sum(len(wait.new.spec_json) for _, wait in waits), len(waits))
        except DiskNearlyFull as error:
            return error
        return None

    async def _answer_replays(self, entries: list[BatchEntry]) -> None:
        """Answers refused lines that were accepted earlier with the wait of that time."""
        refused = [
            (index, entry, entry.replay)
            for index, entry in enumerate(entries)
            if isinstance(entry, RefusedLine) and entry.replay is not None
        ]
        if not refused:
            return
        earlier = await self._dependencies.store.find_replays([replay for _, _, replay in refused])
        for (index, entry, _), result in zip(refused, earlier, strict=True):
            if isinstance(result, Inserted) or (isinstance(result, Conflict) and not entry.invalid):
                entries[index] = _answer(result)


def _answer(result: Inserted | Exception) -> bytes:
    match result:
        case Inserted():
            return b'{"status":%d,"id":"%b"}\n' % (201 if result.created else 200, result.wait.id.encode())
        case Conflict():
            return _answer_error(refusal("idempotency-key-reused", str(result)))
        case _:
            return _answer_error(result)


async def _pieces(entries: Sequence[BatchEntry]) -> AsyncGenerator[bytes]:
    """Yields the answers of the lines, some at a time."""
    for start in range(0, len(entries), LINES_PER_PIECE):
        piece = entries[start : start + LINES_PER_PIECE]
        yield b"".join([entry if isinstance(entry, bytes) else _final(entry) for entry in piece])


class LineRefusals:
    """The answers to the invalid lines of one batch, which must not be far larger than the batch.

    Once those in full have `MAX_REFUSALS` bytes, the others say only what is wrong first.
    """

    def __init__(self) -> None:
        self._left = MAX_REFUSALS

    def answer(self, error: RefusedBody) -> bytes:
        """Returns the answer to a line."""
        if self._left > 0:
            answer = _answer_error(error)
            self._left -= len(answer)
            return answer
        pointer, detail = error.problems[0]
        brief = Problem(pointer if len(pointer) <= MAX_BRIEF else "", detail[:MAX_BRIEF])
        return _answer_error(InvalidInput([brief]))


def _answer_error(error: Exception) -> bytes:
    problem = classify_error(error)
    return orjson.dumps({"status": problem.status, "problem": problem.body}, option=orjson.OPT_APPEND_NEWLINE)


_TOO_LONG = RefusedLine(_answer_error(refusal("too-large", f"at most {MAX_BODY} bytes a line")))


def _final(entry: ValidatedWait | RefusedLine) -> bytes:
    if isinstance(entry, ValidatedWait):  # each was stored or refused
        raise AssertionError("a line of the batch was left without an answer")  # noqa: TRY004 - a bug, not a wrong type
    return entry.answer
