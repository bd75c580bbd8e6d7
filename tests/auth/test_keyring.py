"""The API keys of a daemon: those of its store, and those of the keys file."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from waitd.auth.keyring import USED_AT_RESOLUTION, ApiKeyring
from waitd.core.auth.api_key import format_key, secret_digest
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL, Principal, Role
from waitd.core.errors import Conflict, NotFound, StoreUnavailable, Unauthenticated, WaitdError
from waitd.core.waits.audit import Caller
from waitd.ports import AuditFilter, NewKey
from waitd.stores import Database, Store

START = 1_750_000_000.0
RETENTION = 1000.0
ROOT = Caller(LOOPBACK_PRINCIPAL, "127.0.0.1")
SECRET = "s" * 43
FILED = format_key("filed", SECRET)


@dataclass
class Scene:
    store: Store
    path: Path
    now: float = START
    keyring: ApiKeyring = field(init=False)

    async def open(self, *, file: bool = False) -> ApiKeyring:
        """A keyring as it is after a start."""
        self.keyring = ApiKeyring(
            self.store, file=self.path if file else None, retention=RETENTION, now=lambda: self.now
        )
        await self.keyring.open()
        return self.keyring

    def refused(self, token: str) -> str:
        with pytest.raises(Unauthenticated) as error:
            self.keyring.principal(token)
        assert SECRET not in str(error.value)
        return error.value.reason


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    store = Store(
        await Database.open("sqlite+aiosqlite://"), destination_of=lambda _, __: "", now=lambda: START
    )
    yield Scene(store, tmp_path / "keys")
    await store.close()


async def test_a_key_that_was_made_opens_the_door_also_after_a_restart(scene: Scene) -> None:
    made = await (await scene.open()).create(NewKey(Role.SUBMITTER, "team_a"), ROOT)
    who = Principal(f"key:{made.key.id}", Role.SUBMITTER, "team_a")
    assert scene.keyring.principal(made.token) == who
    assert (await scene.open()).principal(made.token) == who
    assert scene.keyring.every() == [made.key] or scene.keyring.every()[0].id == made.key.id


async def test_nothing_that_proves_a_key_is_stored(scene: Scene) -> None:
    made = await (await scene.open()).create(NewKey(Role.ADMIN, "default"), ROOT)
    secret = made.token.rpartition("_")[2]
    async with scene.store._database.reading() as connection:
        rows = await connection.fetch_all("SELECT * FROM api_keys")
        digests = await connection.fetch_all("SELECT digest FROM api_keys")
    assert digests == [(secret_digest(secret),)]
    assert secret not in repr(rows) + repr(made) + repr(scene.keyring.every())


async def test_other_keys_do_not_open_it(scene: Scene) -> None:
    made = await (await scene.open()).create(NewKey(Role.ADMIN, "default"), ROOT)
    wrong = made.token[:-1] + ("0" if made.token[-1] != "0" else "1")
    assert scene.refused(wrong) == "wrong_secret"
    assert scene.refused(format_key("nobody", SECRET)) == "unknown_key"
    assert scene.refused("waitd_what") == "malformed_key"


async def test_an_expired_key_and_a_revoked_one_do_not_open_it(scene: Scene) -> None:
    keyring = await scene.open()
    short = await keyring.create(NewKey(Role.VIEWER, "default", 60.0), ROOT)
    other = await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)
    scene.now += 60
    assert scene.refused(short.token) == "expired_key"
    revoked = await keyring.revoke(other.key.id, ROOT)
    assert revoked.revoked_at == scene.now
    assert scene.refused(other.token) == "revoked_key"
    await scene.open()
    assert scene.refused(other.token) == "revoked_key"


async def test_revoking_what_is_not_there_or_was_revoked(scene: Scene) -> None:
    keyring = await scene.open()
    made = await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)
    await keyring.revoke(made.key.id, ROOT)
    with pytest.raises(Conflict, match="already revoked"):
        await keyring.revoke(made.key.id, ROOT)
    with pytest.raises(NotFound):
        await keyring.revoke("nobody", ROOT)


async def test_who_made_and_who_revoked_a_key_is_in_the_audit(scene: Scene) -> None:
    keyring = await scene.open()
    made = await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)
    await keyring.revoke(made.key.id, ROOT)
    told = [stored.change for stored in await scene.store.find_audit(AuditFilter())]
    assert [(change.action, change.subject, change.principal) for change in told] == [
        ("revoke_key", made.key.id, "loopback"),
        ("create_key", made.key.id, "loopback"),
    ]


async def test_a_key_that_could_not_be_stored_does_not_open_the_door(scene: Scene) -> None:
    keyring = await scene.open()
    await scene.store.close()
    with pytest.raises(StoreUnavailable):
        await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)
    assert keyring.every() == []


async def test_there_is_a_limit(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waitd.auth.keyring.MAX_KEYS", 2)
    keyring = await scene.open()
    for _ in range(2):
        await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)
    with pytest.raises(Conflict, match="2 keys"):
        await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)


# ---------------------------------------------------------------- the file


async def test_the_keys_of_the_file_open_the_door_and_are_not_ours_to_revoke(scene: Scene) -> None:
    scene.path.write_text(f"{FILED} admin\n")
    keyring = await scene.open(file=True)
    assert keyring.principal(FILED) == Principal("key:filed", Role.ADMIN, "default")
    assert keyring.holds_any()
    with pytest.raises(Conflict, match="keys file"):
        await keyring.revoke("filed", ROOT)


async def test_the_file_is_read_again_when_it_changes(scene: Scene) -> None:
    scene.path.write_text(f"{FILED} admin\n")
    keyring = await scene.open(file=True)
    keyring.principal(FILED)
    scene.path.write_text(f"{FILED} viewer team_a\n{format_key('new', SECRET)} viewer\n")
    await keyring.refresh()
    assert keyring.principal(FILED) == Principal("key:filed", Role.VIEWER, "team_a")
    keyring.principal(format_key("new", SECRET))
    scene.path.write_text("")
    await keyring.refresh()
    assert scene.refused(FILED) == "unknown_key"
    assert not keyring.holds_any()


async def test_a_file_as_kubernetes_mounts_it_is_read_again_when_the_link_is_led_elsewhere(
    scene: Scene,
) -> None:
    for name, role in (("one", "viewer"), ("two", "admin")):
        (scene.path.parent / name).mkdir()
        (scene.path.parent / name / "keys").write_text(f"{FILED} {role}\n")
    data = scene.path.parent / "..data"
    data.symlink_to("one")
    scene.path.symlink_to("..data/keys")
    keyring = await scene.open(file=True)
    assert keyring.principal(FILED).role is Role.VIEWER
    fresh = scene.path.parent / "..fresh"
    fresh.symlink_to("two")
    fresh.rename(data)
    await keyring.refresh()
    assert keyring.principal(FILED).role is Role.ADMIN


async def test_a_file_that_is_wrong_or_gone_changes_nothing_and_is_told_once(scene: Scene) -> None:
    scene.path.write_text(f"{FILED} admin\n")
    keyring = await scene.open(file=True)
    with capture_logs() as logs:
        scene.path.write_text(f"{format_key('other', SECRET)} admin\n{SECRET} nonsense\n")
        await keyring.refresh()
        await keyring.refresh()
        keyring.principal(FILED)
        scene.path.unlink()
        await keyring.refresh()
        keyring.principal(FILED)
    assert [line["event"] for line in logs] == ["api_keys_file_not_read"] * 2
    assert "line 2" in logs[0]["error"]
    assert SECRET not in str(logs)


@pytest.mark.parametrize("content", [b"nonsense\n", b"\xff\xfe", None])
async def test_at_the_start_a_file_that_cannot_be_used_is_a_refusal_that_names_it(
    scene: Scene, content: bytes | None
) -> None:
    if content is not None:
        scene.path.write_bytes(content)
    with pytest.raises(WaitdError, match=str(scene.path)):
        await scene.open(file=True)


async def test_a_key_of_the_file_wins_over_a_stored_one_of_the_same_id(scene: Scene) -> None:
    made = await (await scene.open()).create(NewKey(Role.ADMIN, "default"), ROOT)
    scene.path.write_text(f"{format_key(made.key.id, SECRET)} viewer\n")
    keyring = await scene.open(file=True)
    assert keyring.principal(format_key(made.key.id, SECRET)).role is Role.VIEWER
    assert scene.refused(made.token) == "wrong_secret"


# ---------------------------------------------------------------- the slow, regular work


async def test_use_is_noted_to_the_hour_without_a_write_for_each(scene: Scene) -> None:
    keyring = await scene.open()
    made = await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)
    await keyring.refresh()
    assert (await stored(scene)) == [None]
    keyring.principal(made.token)
    await keyring.refresh()
    assert (await stored(scene)) == [START]
    scene.now += USED_AT_RESOLUTION - 1
    keyring.principal(made.token)
    await keyring.refresh()
    assert (await stored(scene)) == [START]
    assert [key.used_at for key in keyring.every()] == [scene.now]
    scene.now += 1
    keyring.principal(made.token)
    await keyring.refresh()
    assert (await stored(scene)) == [START + USED_AT_RESOLUTION]


async def stored(scene: Scene) -> list[float | None]:
    return [key.used_at for key in await scene.store.api_keys()]


async def test_keys_that_ended_long_ago_are_forgotten(scene: Scene) -> None:
    keyring = await scene.open()
    good = await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)
    short = await keyring.create(NewKey(Role.VIEWER, "default", 10.0), ROOT)
    scene.now += 10 + RETENTION
    await keyring.refresh()
    assert {key.id for key in keyring.every()} == {good.key.id, short.key.id}
    scene.now += 1
    await keyring.refresh()
    assert [key.id for key in keyring.every()] == [good.key.id]
    assert [key.id for key in await scene.store.api_keys()] == [good.key.id]
