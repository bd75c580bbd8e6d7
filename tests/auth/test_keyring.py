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
from waitd.ports import AuditFilter, CreatedKey, NewKey
from waitd.stores import Store, open_database

START = 1_750_000_000.0
RETENTION = 1000.0
ROOT = Caller(LOOPBACK_PRINCIPAL, "127.0.0.1")
SECRET = "s" * 43
FILE_KEY = format_key("infile", SECRET)


@dataclass
class KeyringSetup:
    """A store, the path of a keys file, a clock, and the keyring over them."""

    store: Store
    path: Path
    now: float = START
    keyring: ApiKeyring = field(init=False)

    async def open(self, *, file: bool = False) -> ApiKeyring:
        """Opens a keyring, as a start of the daemon does."""
        self.keyring = ApiKeyring(
            self.store,
            file=self.path if file else None,
            kept_since=lambda: self.now - RETENTION,
            now=lambda: self.now,
        )
        await self.keyring.open()
        return self.keyring

    async def create(
        self, role: Role = Role.VIEWER, namespace: str = "default", expires_in: float | None = None
    ) -> CreatedKey:
        return await self.keyring.create(NewKey(role, namespace, expires_in), ROOT)

    def refusal(self, token: str) -> str:
        """The reason for which a token must be refused."""
        with pytest.raises(Unauthenticated) as error:
            self.keyring.principal(token)
        assert SECRET not in str(error.value)
        return error.value.reason

    async def stored_use(self) -> list[float | None]:
        return [key.used_at for key in await self.store.api_keys()]


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[KeyringSetup]:
    """The keyring is open, without a file."""
    store = Store(
        await open_database("sqlite+aiosqlite://"), destination_of=lambda _, __: "", now=lambda: START
    )
    setup = KeyringSetup(store, tmp_path / "keys")
    await setup.open()
    yield setup
    await store.close()


async def test_a_created_key_is_valid_after_a_restart(setup: KeyringSetup) -> None:
    created = await setup.create(Role.SUBMITTER, "team_a")
    principal = Principal(f"key:{created.key.id}", Role.SUBMITTER, "team_a")
    assert setup.keyring.principal(created.token) == principal
    assert (await setup.open()).principal(created.token) == principal
    assert [key.id for key in setup.keyring.every()] == [created.key.id]


async def test_no_secret_is_stored(setup: KeyringSetup) -> None:
    created = await setup.create(Role.ADMIN)
    secret = created.token.rpartition("_")[2]
    async with setup.store._database.reading() as connection:
        rows = await connection.fetch_all("SELECT * FROM api_keys")
        digests = await connection.fetch_all("SELECT digest FROM api_keys")
    assert digests == [(secret_digest(secret),)]
    assert secret not in repr(rows) + repr(created) + repr(setup.keyring.every())


async def test_unknown_keys_are_refused(setup: KeyringSetup) -> None:
    created = await setup.create(Role.ADMIN)
    wrong = created.token[:-1] + ("0" if created.token[-1] != "0" else "1")
    assert setup.refusal(wrong) == "wrong_secret"
    assert setup.refusal(format_key("unknown", SECRET)) == "unknown_key"
    assert setup.refusal("waitd_what") == "malformed_key"


async def test_expired_and_revoked_keys_are_refused(setup: KeyringSetup) -> None:
    short, other = await setup.create(expires_in=60.0), await setup.create()
    setup.now += 60
    assert setup.refusal(short.token) == "expired_key"
    revoked = await setup.keyring.revoke(other.key.id, ROOT)
    assert revoked.revoked_at == setup.now
    assert setup.refusal(other.token) == "revoked_key"
    await setup.open()
    assert setup.refusal(other.token) == "revoked_key"


async def test_revoking_an_unknown_or_revoked_key_is_an_error(setup: KeyringSetup) -> None:
    created = await setup.create()
    await setup.keyring.revoke(created.key.id, ROOT)
    with pytest.raises(Conflict, match="already revoked"):
        await setup.keyring.revoke(created.key.id, ROOT)
    with pytest.raises(NotFound):
        await setup.keyring.revoke("unknown", ROOT)


async def test_the_audit_names_who_created_and_revoked_a_key(setup: KeyringSetup) -> None:
    created = await setup.create()
    await setup.keyring.revoke(created.key.id, ROOT)
    changes = [stored.entry for stored in await setup.store.find_audit(AuditFilter())]
    assert [(change.action, change.subject, change.principal) for change in changes] == [
        ("revoke_key", created.key.id, "loopback"),
        ("create_key", created.key.id, "loopback"),
    ]


async def test_a_key_that_could_not_be_stored_is_refused(setup: KeyringSetup) -> None:
    await setup.store.close()
    with pytest.raises(StoreUnavailable):
        await setup.create()
    assert setup.keyring.every() == []


async def test_the_number_of_keys_is_limited(setup: KeyringSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waitd.auth.keyring.MAX_KEYS", 2)
    for _ in range(2):
        await setup.create()
    with pytest.raises(Conflict, match="2 keys"):
        await setup.create()


# ---------------------------------------------------------------- the file


async def test_keys_of_the_file_are_valid_and_cannot_be_revoked(setup: KeyringSetup) -> None:
    setup.path.write_text(f"{FILE_KEY} admin\n")
    keyring = await setup.open(file=True)
    assert keyring.principal(FILE_KEY) == Principal("key:infile", Role.ADMIN, "default")
    assert keyring.holds_any()
    with pytest.raises(Conflict, match="keys file"):
        await keyring.revoke("infile", ROOT)


async def test_the_file_is_read_again_when_it_changes(setup: KeyringSetup) -> None:
    setup.path.write_text(f"{FILE_KEY} admin\n")
    keyring = await setup.open(file=True)
    keyring.principal(FILE_KEY)
    setup.path.write_text(f"{FILE_KEY} viewer team_a\n{format_key('new', SECRET)} viewer\n")
    await keyring.refresh()
    assert keyring.principal(FILE_KEY) == Principal("key:infile", Role.VIEWER, "team_a")
    keyring.principal(format_key("new", SECRET))
    setup.path.write_text("")
    await keyring.refresh()
    assert setup.refusal(FILE_KEY) == "unknown_key"
    assert not keyring.holds_any()


async def test_a_mounted_secret_is_read_again_when_its_link_changes(setup: KeyringSetup) -> None:
    for name, role in (("one", "viewer"), ("two", "admin")):
        (setup.path.parent / name).mkdir()
        (setup.path.parent / name / "keys").write_text(f"{FILE_KEY} {role}\n")
    data = setup.path.parent / "..data"
    data.symlink_to("one")
    setup.path.symlink_to("..data/keys")
    keyring = await setup.open(file=True)
    assert keyring.principal(FILE_KEY).role is Role.VIEWER
    new_data = setup.path.parent / "..new"
    new_data.symlink_to("two")
    new_data.rename(data)
    await keyring.refresh()
    assert keyring.principal(FILE_KEY).role is Role.ADMIN


async def test_an_invalid_or_missing_file_changes_nothing_and_is_logged_once(setup: KeyringSetup) -> None:
    setup.path.write_text(f"{FILE_KEY} admin\n")
    keyring = await setup.open(file=True)
    with capture_logs() as logs:
        setup.path.write_text(f"{format_key('other', SECRET)} admin\n{SECRET} nonsense\n")
        await keyring.refresh()
        await keyring.refresh()
        keyring.principal(FILE_KEY)
        setup.path.unlink()
        await keyring.refresh()
        keyring.principal(FILE_KEY)
    assert [line["event"] for line in logs] == ["api_keys_file_not_read"] * 2
    assert "line 2" in logs[0]["error"]
    assert SECRET not in str(logs)


@pytest.mark.parametrize("content", [b"nonsense\n", b"\xff\xfe", None])
async def test_an_unusable_file_at_the_start_is_an_error_that_names_it(
    setup: KeyringSetup, content: bytes | None
) -> None:
    if content is not None:
        setup.path.write_bytes(content)
    with pytest.raises(WaitdError, match=str(setup.path)):
        await setup.open(file=True)


async def test_a_key_of_the_file_wins_over_a_stored_one_of_the_same_id(setup: KeyringSetup) -> None:
    created = await setup.create(Role.ADMIN)
    setup.path.write_text(f"{format_key(created.key.id, SECRET)} viewer\n")
    keyring = await setup.open(file=True)
    assert keyring.principal(format_key(created.key.id, SECRET)).role is Role.VIEWER
    assert setup.refusal(created.token) == "wrong_secret"


# ---------------------------------------------------------------- maintenance


async def test_use_is_recorded_to_the_hour(setup: KeyringSetup) -> None:
    keyring, created = setup.keyring, await setup.create()
    await keyring.refresh()
    assert await setup.stored_use() == [None]
    keyring.principal(created.token)
    await keyring.refresh()
    assert await setup.stored_use() == [START]
    setup.now += USED_AT_RESOLUTION - 1
    keyring.principal(created.token)
    await keyring.refresh()
    assert await setup.stored_use() == [START]
    assert [key.used_at for key in keyring.every()] == [setup.now]
    setup.now += 1
    keyring.principal(created.token)
    await keyring.refresh()
    assert await setup.stored_use() == [START + USED_AT_RESOLUTION]


async def test_keys_past_their_retention_are_deleted(setup: KeyringSetup) -> None:
    good, short = await setup.create(), await setup.create(expires_in=10.0)
    setup.now += 10 + RETENTION
    await setup.keyring.refresh()
    assert {key.id for key in setup.keyring.every()} == {good.key.id, short.key.id}
    setup.now += 1
    await setup.keyring.refresh()
    assert [key.id for key in setup.keyring.every()] == [good.key.id]
    assert [key.id for key in await setup.store.api_keys()] == [good.key.id]
