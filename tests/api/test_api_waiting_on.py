from api_fakes import NOW, Api

from waitd.core.waits.wait import Outcome, Progress, WaitState
from waitd.models import WaitView
from waitd.ports import LiveWait, WaitingOn

QUEUED = WaitingOn("queued", NOW - 5, "origin_limit", "https://batch.example.org", 1, 1, True, NOW + 60)


async def test_a_held_wait_shows_its_stage_and_what_throttles_it(api: Api) -> None:
    wait_id = await api.submitted()
    api.poking.lives[wait_id] = LiveWait(Progress(), NOW, QUEUED)
    view = await (await api.client.get(f"/v1/waits/{wait_id}")).json()
    WaitView.model_validate(view)
    assert view["waiting_on"] == {
        "stage": "queued",
        "since": "2023-11-14T22:13:15.000Z",
        "held_up_by": "origin_limit",
        "origin": "https://batch.example.org",
        "origin_limit": 1,
        "origin_running": 1,
        "origin_held_down": True,
        "quiet_until": "2023-11-14T22:14:20.000Z",
    }


async def test_a_wait_that_is_not_held_or_has_ended_waits_on_nothing(api: Api) -> None:
    wait_id = await api.submitted()
    view = await (await api.client.get(f"/v1/waits/{wait_id}")).json()
    assert view["waiting_on"] is None
    api.poking.lives[wait_id] = LiveWait(Progress(), NOW, QUEUED)
    await api.store.end(wait_id, Outcome(WaitState.SUCCESS))
    view = await (await api.client.get(f"/v1/waits/{wait_id}")).json()
    assert view["waiting_on"] is None
