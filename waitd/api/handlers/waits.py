"""Waits over HTTP: submit, show and list them; cancel, poke and redeliver one."""

from dataclasses import replace
from typing import Any

import anyio
from aiohttp import web

from waitd.api import queries
from waitd.api.authentication import AUTHORIZE_AGAIN, PRINCIPAL
from waitd.api.dependencies import ApiDependencies, refuse_while_draining
from waitd.api.handlers.audit import SUBJECT, caller_of
from waitd.api.handlers.costs import CostHandlers
from waitd.api.handlers.lists import PART_BYTES, Lists, Page
from waitd.api.problems import ProblemError, refusal
from waitd.api.server.bodies import json_response, read_body, read_no_fields
from waitd.api.server.seats import leave_seat
from waitd.api.submission.admission import Admission
from waitd.api.submission.findings import find_unknown
from waitd.api.submission.idempotency import check_key
from waitd.api.submission.validation import RefusedBody, Submissions, ValidatedWait
from waitd.api.views import pokes_view, progress_of, unreadable_view, wait_view
from waitd.core.auth.quotas import Resource
from waitd.core.errors import Conflict, DiskNearlyFull, InvalidInput, LimitReached, Unreadable
from waitd.core.waits.audit import Caller, build_audit_entry
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.wait import WaitId, WaitState
from waitd.models import UNREADABLE
from waitd.ports import IdempotentSubmit, Inserted, NewWait, StoredWait, UnreadableWait


class WaitHandlers:
    """The handlers of `/v1/waits…`, except the batch."""

    def __init__(
        self,
        dependencies: ApiDependencies,
        submissions: Submissions,
        admission: Admission,
        costs: CostHandlers,
        lists: Lists,
    ) -> None:
        self._dependencies = dependencies
        self._submissions = submissions
        self._admission = admission
        self._costs = costs
        self._lists = lists

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/waits`: 201 once the wait is on disk, 200 for the same key and body again."""
        refuse_while_draining(self._dependencies.health)
        key = _idempotency_key(request)
        body = await read_body(request)
        try:
            wait = await self._submissions.validate(body, request[PRINCIPAL].namespace, key)
        except RefusedBody as refused:
            added = await self._replayed(refused, refused.replay)
        else:
            added = await self._admit(wait, caller_of(request))
        request[SUBJECT] = added.wait.id
        view = self._view(added.wait, until=added.wait.created_at if added.created else None)
        return json_response(view, 201 if added.created else 200, {"Location": f"/v1/waits/{added.wait.id}"})

    async def _admit(self, wait: ValidatedWait, by: Caller) -> Inserted:
        """Stores a valid wait if there is room for it and its connections are known."""
        try:
            if wait.uncached:
                conn_ids = [named.conn_id for named in wait.uncached]
                wait.refuse_unknown(await find_unknown(self._dependencies.connections, conn_ids))
            refuse_while_draining(self._dependencies.health)
            return await self._insert(wait.new, by)
        except (InvalidInput, LimitReached, ProblemError, DiskNearlyFull) as refused:
            return await self._replayed(refused, wait.replay)

    async def _replayed(
        self,
        refused: InvalidInput | LimitReached | ProblemError | DiskNearlyFull,
        replay: IdempotentSubmit | None,
    ) -> Inserted:
        """Returns the wait of an earlier request with this key and body, or raises `refused`."""
        [earlier] = await self._dependencies.store.find_replays([replay]) if replay is not None else [None]
        if isinstance(earlier, Inserted):
            return earlier
        if isinstance(earlier, Conflict) and not isinstance(refused, InvalidInput):
            raise refusal("idempotency-key-reused", str(earlier))
        raise refused

    async def _insert(self, new: NewWait, by: Caller) -> Inserted:
        """Stores the wait by `Writer.insert`, if there is room for it."""
        _, reached = self._dependencies.throttle.take_waits(by.principal, 1)
        if reached is not None:
            raise reached
        with self._admission.seats(1) as seats:
            if not seats:
                raise refusal("over-capacity", "nothing was stored; send it again later")
            self._dependencies.disk.take(len(new.spec_json))
            [result] = await self._dependencies.store.insert([new], by)
        if isinstance(result, Conflict):
            raise refusal("idempotency-key-reused", str(result))
        if isinstance(result, Exception):
            raise result
        return result

    async def show(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/waits/{id}`; with `?wait=`, once the wait has ended or that time is over."""
        wait_id, namespace = queries.wait_id(request), request[PRINCIPAL].visible_namespace
        try:
            if seconds := queries.long_poll_seconds(request):
                leave_seat(request)
                with self._dependencies.throttle.hold(Resource.LONG_POLLS, request[PRINCIPAL]):
                    return self._answer(await self._ended(request, wait_id, seconds))
            return self._answer(await self._dependencies.store.get(wait_id, namespace))
        except Unreadable as error:
            unreadable = await self._dependencies.store.get_unreadable(wait_id, namespace)
            if unreadable is None:  # it was mended or deleted just now
                raise Conflict(f"{error}; ask again") from None
            return json_response(unreadable_view(unreadable))

    async def _ended(self, request: web.Request, wait_id: WaitId, seconds: float) -> StoredWait:
        """Returns a wait once it has ended, or after `seconds`, if the caller may still read it.

        Raises:
            AccessDenied, Unavailable: see `Gatekeeper.authorize`.
        """
        get = self._dependencies.store.get
        with self._dependencies.long_polls.watch(wait_id) as ended:
            wait = await get(wait_id, request[PRINCIPAL].visible_namespace)
            if wait.state is not WaitState.WAITING:
                return wait
            with anyio.move_on_after(seconds):
                await ended.wait()
            principal = await request[AUTHORIZE_AGAIN](request)
            return await get(wait_id, principal.visible_namespace)

    async def find(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/waits`: a page of waits, newest first, and the token of the next page."""
        query = queries.wait_filter(request.query, request[PRINCIPAL].visible_namespace)
        store = self._dependencies.store
        find = store.find_unreadable if query.state == UNREADABLE else store.find
        page: Page[StoredWait | UnreadableWait] = Page(
            find=lambda before, limit: find(
                replace(query, before=before, limit=limit, most_bytes=PART_BYTES)
            ),
            key=lambda wait: wait.id,
            view=lambda wait: unreadable_view(wait) if isinstance(wait, UnreadableWait) else self._view(wait),
            before=query.before,
            limit=query.limit,
        )
        return await self._lists.send_page(request, "waits", page)

    async def pokes(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/waits/{id}/pokes`: the last runs of verdicts, oldest first."""
        wait = await self._dependencies.store.get(
            queries.wait_id(request), request[PRINCIPAL].visible_namespace
        )
        return json_response(pokes_view(progress_of(wait, self._dependencies.poking.live(wait.id))))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/waits/{id}:cancel`: 200 with the cancelled wait, 409 if it had ended before."""
        await read_no_fields(request)
        if self._dependencies.disk.full:
            # Cancels are accepted, and their ends stored. The audit entry of a refused one would
            # take room, and there may be any number of those.
            await self._get_waiting(request)
        wait = await self._dependencies.store.cancel(
            queries.wait_id(request),
            cancelled_outcome(),
            request[PRINCIPAL].visible_namespace,
            caller_of(request),
        )
        return self._answer(wait)

    async def poke(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/waits/{id}:poke`: 202, the wait is due now; 409 if it has ended."""
        await read_no_fields(request)
        wait = await self._get_waiting(request)
        self._dependencies.disk.take(0)
        entry = build_audit_entry(caller_of(request), self._dependencies.now(), "poke", wait.id)
        await self._dependencies.store.save_audit_entry(entry)
        # A wait that the poker has not loaded yet is poked as soon as it is loaded.
        self._dependencies.poking.poke_now(wait.id)
        return self._answer(wait, 202)

    async def _get_waiting(self, request: web.Request) -> StoredWait:
        """Returns the wait in the path.

        Raises:
            NotFound: it does not exist.
            Conflict: it has ended.
        """
        wait = await self._dependencies.store.get(
            queries.wait_id(request), request[PRINCIPAL].visible_namespace
        )
        if wait.state is not WaitState.WAITING:
            raise Conflict(f"the wait has ended: {wait.state.value}")
        return wait

    async def redeliver(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/waits/{id}:redeliver`: 200 with the new deliveries; 409 while it is waiting."""
        await read_no_fields(request)
        self._dependencies.disk.take(0)
        wait = await self._dependencies.store.redeliver(
            queries.wait_id(request), request[PRINCIPAL].visible_namespace, caller_of(request)
        )
        return self._answer(wait)

    def _view(self, wait: StoredWait, until: float | None = None) -> dict[str, Any]:
        """Returns the view of a wait. `until`: as for `CostHandlers.wait_cost`."""
        live = self._dependencies.poking.live(wait.id)
        cost = self._costs.wait_cost(wait, progress_of(wait, live), until)
        return wait_view(wait, live, self._submissions.sinks, cost)

    def _answer(self, wait: StoredWait, status: int = 200) -> web.Response:
        return json_response(self._view(wait), status)


def _idempotency_key(request: web.Request) -> str | None:
    keys = request.headers.getall("Idempotency-Key", ())
    if len(keys) > 1:
        raise InvalidInput.at("", "the Idempotency-Key header is given more than once")
    key = keys[0] if keys else None
    check_key(key)
    return key
