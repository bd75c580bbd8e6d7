"""A disk that is nearly full: what makes the database grow is refused, and nothing else is."""

from typing import Any

import pytest
from api_answers import lines_of, problem_of
from api_fakes import Api, wait

from waitd.core.disk_room import DiskRoom, DiskSpace
from waitd.core.errors import DiskNearlyFull

SIZE = 2**30


@pytest.fixture
def more() -> dict[str, Any]:
    return {"disk": DiskRoom(SIZE // 10, SIZE // 5)}


async def test_on_a_nearly_full_disk_only_what_grows_is_refused(api: Api) -> None:
    ended, waiting = await api.submit(), await api.submit()
    await api.store.end(ended)
    key = {"Idempotency_Key": "again"}
    accepted = await (await api.post("/v1/waits", wait(), **key)).json()
    room = api.dependencies.disk
    room.measure(DiskSpace(SIZE, SIZE // 8, 0))
    ready = await api.get("/readyz")
    assert (ready["status"], len(ready["warnings"])) == ("degraded", 1)
    assert (await api.post("/v1/waits", wait())).status == 201
    room.measure(DiskSpace(SIZE, SIZE // 20, 0))
    for path, body in (
        ("/v1/waits", wait()),
        ("/v1/signals/approved", {"by": "ops"}),
        (f"/v1/waits/{ended}:redeliver", None),
        (f"/v1/waits/{waiting}:poke", None),
        ("/v1/keys", {"role": "viewer"}),
        ("/v1/deliveries:redeliver", {"state": "dead"}),
    ):
        refused = await api.post(path, body)
        problem = await problem_of(refused, 507, "insufficient-storage")
        assert "nothing was stored" in problem["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
    assert "are refused" in (await api.get("/readyz"))["warnings"][0]
    lines = await lines_of(await api.batch(wait(), wait(idempotency_key="again"), wait(kind="?")))
    assert [line["status"] for line in lines] == [507, 200, 422]
    repeated = await api.post("/v1/waits", wait(), **key)
    assert (repeated.status, (await repeated.json())["id"]) == (200, accepted["id"])
    assert (await api.post(f"/v1/waits/{waiting}:cancel")).status == 200
    assert (await api.post(f"/v1/waits/{waiting}:cancel")).status == 409
    [newest, *_] = (await api.get("/v1/audit"))["changes"]
    assert (newest["action"], newest["result"]) == ("cancel", "done"), "a refused one leaves no entry now"
    room.measure(DiskSpace(SIZE, SIZE // 20, SIZE // 2))
    assert (await api.post("/v1/waits", wait())).status == 201


async def test_what_was_accepted_since_the_disk_was_measured_counts(api: Api) -> None:
    room = api.dependencies.disk
    room.measure(DiskSpace(SIZE, SIZE // 10 + 10_000, 0))
    line = wait(labels={"fill": "x" * 200})
    statuses = [line["status"] for line in await lines_of(await api.batch(line, line))]
    assert statuses == [201, 201]
    statuses = [line["status"] for line in await lines_of(await api.batch(*[line] * 20))]
    assert statuses == [507] * 20
    with pytest.raises(DiskNearlyFull):
        room.take(10_000)
