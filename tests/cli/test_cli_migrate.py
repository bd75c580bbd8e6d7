import json
import sqlite3
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from cli_process import Run, Serve, assert_fails

from waitd.cli.migrate import describe_migration


def head() -> str:
    config = Config()
    config.set_main_option("script_location", "waitd.stores:migrations")
    revision = ScriptDirectory.from_config(config).get_current_head()
    assert revision is not None
    return revision


def test_a_database_is_created_and_then_is_up_to_date(waitd: Run, tmp_path: Path) -> None:
    first = waitd("migrate", WAITD_STATE_DIR=str(tmp_path / "new"))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.endswith(f"new/waitd.db was created at revision {head()}.\n")
    again = waitd("migrate", WAITD_STATE_DIR=str(tmp_path / "new"))
    assert f"is already at revision {head()}" in again.stdout
    result = json.loads(waitd("migrate", "--json", WAITD_STATE_DIR=str(tmp_path / "new")).stdout)
    assert (result["from"], result["to"]) == (head(), head())
    assert result["database"].endswith("new/waitd.db")


def test_a_migration_is_described_by_its_revisions() -> None:
    assert describe_migration("0001", "0002") == "was migrated from revision 0001 to 0002"


def test_the_settings_file_names_the_database(waitd: Run, tmp_path: Path) -> None:
    config = tmp_path / "waitd.toml"
    config.write_text(f'state_dir = "{tmp_path}/configured"\n')
    assert waitd("migrate", "--config", str(config)).returncode == 0
    assert (tmp_path / "configured" / "waitd.db").is_file()


def test_a_database_in_use_is_not_migrated(waitd: Run, serve: Serve, bind: str, tmp_path: Path) -> None:
    with serve(tmp_path, bind) as (_, daemon):
        done = waitd("migrate", WAITD_STATE_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"in use by another waitd (pid {daemon.pid}" in done.stderr


def test_a_newer_database_is_not_changed(waitd: Run, tmp_path: Path) -> None:
    assert waitd("migrate", WAITD_STATE_DIR=str(tmp_path)).returncode == 0
    database = sqlite3.connect(tmp_path / "waitd.db")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    database.close()
    assert_fails(waitd("migrate", WAITD_STATE_DIR=str(tmp_path)), 1, "newer waitd")


def test_a_password_in_the_databases_url_is_not_shown(waitd: Run) -> None:
    done = waitd("migrate", WAITD_DATABASE_URL="postgresql+asyncpg://waitd:hunter2@127.0.0.1:1/waitd")
    assert_fails(done, 1)
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
