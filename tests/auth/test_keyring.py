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


async def test_a_created_key_is_valid_after_a_restart(scene: Scene) -> None:
    made = await (await scene.open()).create(NewKey(Role.SUBMITTER, "team_a"), ROOT)
    who = Principal(f"key:{made.key.id}", Role.SUBMITTER, "team_a")
    assert scene.keyring.principal(made.token) == who
    assert (await scene.open()).principal(made.token) == who
    assert scene.keyring.every() == [made.key] or scene.keyring.every()[0].id == made.key.id


async def test_no_secret_is_stored(scene: Scene) -> None:
    made = await (await scene.open()).create(NewKey(Role.ADMIN, "default"), ROOT)
    secret = made.token.rpartition("_")[2]
    async with scene.store._database.reading() as connection:
        rows = await connection.fetch_all("SELECT * FROM api_keys")
        digests = await connection.fetch_all("SELECT digest FROM api_keys")
    assert digests == [(secret_digest(secret),)]
    assert secret not in repr(rows) + repr(made) + repr(scene.keyring.every())


async def test_unknown_keys_are_refused(scene: Scene) -> None:
    made = await (await scene.open()).create(NewKey(Role.ADMIN, "default"), ROOT)
    wrong = made.token[:-1] + ("0" if made.token[-1] != "0" else "1")
    assert scene.refused(wrong) == "wrong_secret"
    assert scene.refused(format_key("nobody", SECRET)) == "unknown_key"
    assert scene.refused("waitd_what") == "malformed_key"


async def test_expired_and_revoked_keys_are_refused(scene: Scene) -> None:
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


async def test_revoking_an_unknown_or_revoked_key_is_an_error(scene: Scene) -> None:
    keyring = await scene.open()
    made = await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)
    await keyring.revoke(made.key.id, ROOT)
    with pytest.raises(Conflict, match="already revoked"):
        await keyring.revoke(made.key.id, ROOT)
    with pytest.raises(NotFound):
        await keyring.revoke("nobody", ROOT)


async def test_the_audit_names_who_created_and_revoked_a_key(scene: Scene) -> None:
    keyring = await scene.open()
    made = await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)
    await keyring.revoke(made.key.id, ROOT)
    changes = [stored.change for stored in await scene.store.find_audit(AuditFilter())]
    assert [(change.action, change.subject, change.principal) for change in changes] == [
        ("revoke_key", made.key.id, "loopback"),
        ("create_key", made.key.id, "loopback"),
    ]


async def test_a_key_that_could_not_be_stored_is_refused(scene: Scene) -> None:
    keyring = await scene.open()
    await scene.store.close()
    with pytest.raises(StoreUnavailable):
        await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)
    assert keyring.every() == []


async def test_the_number_of_keys_is_limited(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waitd.auth.keyring.MAX_KEYS", 2)
    keyring = await scene.open()
    for _ in range(2):
        await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)
    with pytest.raises(Conflict, match="2 keys"):
        await keyring.create(NewKey(Role.VIEWER, "default"), ROOT)


# ---------------------------------------------------------------- the file


async def test_keys_of_the_file_are_valid_and_cannot_be_revoked(scene: Scene) -> None:
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


async def test_a_mounted_secret_is_read_again_when_its_link_changes(
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


async def test_an_invalid_or_missing_file_changes_nothing_and_is_logged_once(scene: Scene) -> None:
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
async def test_an_unusable_file_at_the_start_is_an_error_that_names_it(
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


async def test_use_is_recorded_to_the_hour(scene: Scene) -> None:
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


async def test_keys_past_their_retention_are_deleted(scene: Scene) -> None:
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
