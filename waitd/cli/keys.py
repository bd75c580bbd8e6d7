"""`waitd keys create`, `list` and `revoke`: API keys."""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.console import ExitCode, fail, print_json, print_line, stdout_console
from waitd.cli.daemon_calls import call_daemon
from waitd.cli.display.formatting import format_relative_time
from waitd.cli.options import DEFAULT_URL, Json, Url, examples, help_text

if TYPE_CHECKING:
    from rich.table import Table

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,9})([smhd]?)")


def create(
    role: Annotated[
        str, typer.Option(help="What the key allows: viewer, submitter, operator or admin.", metavar="ROLE")
    ],
    namespace: Annotated[
        str,
        typer.Option(
            help="The namespace it gives access to. '*', for viewers only: all of them.", metavar="NAME"
        ),
    ] = "default",
    expires_in: Annotated[
        str | None,
        typer.Option(
            help="Lifetime: 90d, 12h, 30m, or a number of seconds. (default: it does not expire)",
            metavar="TIME",
        ),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Do not call a daemon: print the key and its line for api_keys_file."),
    ] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Create an API key. It is printed only this once: waitd stores a digest of it.

    Create a daemon's first key with --offline, and add the printed line, which contains no secret,
    to the file named by the setting api_keys_file.
    """
    seconds = _parse_duration(expires_in)
    if offline:
        created = _create_offline(role, namespace, seconds)
    else:
        request = {"role": role, "namespace": namespace}
        created = call_daemon(
            url, lambda client: client.create_key(request | ({"expires_in": seconds} if seconds else {}))
        )
    if as_json:
        print_json(created)
    else:
        _print_created(created)


def _parse_duration(text: str | None) -> float | None:
    if text is None:
        return None
    from waitd.core.auth.api_key import MAX_EXPIRES_IN

    match = _DURATION.fullmatch(text)
    seconds = int(match[1]) * _UNITS[match[2] or "s"] if match else 0
    if not 0 < seconds <= MAX_EXPIRES_IN:
        fail(
            f"--expires-in {text}: write it as 90d, 12h, 30m, or as a number of seconds, a hundred years at most.",
            ExitCode.USAGE,
        )
    return float(seconds)


def _create_offline(role: str, namespace: str, seconds: float | None) -> dict[str, Any]:
    from waitd.auth.keyring import generate_key
    from waitd.core.auth.api_key import format_key_line
    from waitd.core.auth.principal import ROLES_BY_NAME, check_key_namespace
    from waitd.ports import NewKey

    if role not in ROLES_BY_NAME:
        fail(f"--role {role}: must be one of {', '.join(ROLES_BY_NAME)}.", ExitCode.USAGE)
    try:
        check_key_namespace(namespace, ROLES_BY_NAME[role])
    except ValueError as error:
        fail(f"--namespace {namespace}: {error}.", ExitCode.USAGE)
    key = generate_key(NewKey(ROLES_BY_NAME[role], namespace, seconds), time.time(), "file")
    return {
        "id": key.key.id,
        "role": role,
        "namespace": namespace,
        "key": key.token,
        "line": format_key_line(key.key),
    }


def _print_created(created: Mapping[str, Any]) -> None:
    print_line(created["key"])
    if "line" in created:
        sys.stderr.write(
            f"Add this line to the file named by api_keys_file:\n{created['line']}\n"
            "The key is printed only this once. Clients pass it in WAITD_API_KEY.\n"
        )
    else:
        sys.stderr.write(
            f"Key {created['id']}: role {created['role']}, namespace {created['namespace']}. "
            "It is printed only this once.\n"
        )


def list_keys(as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """List the API keys, newest first, with role, namespace, expiry and last use.

    Secrets are not shown.
    """
    keys = call_daemon(url, lambda client: client.keys())
    if as_json:
        print_json(keys)
    else:
        stdout_console().print(_render_keys(keys))


def _render_keys(keys: Sequence[Mapping[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ID", "ROLE", "NAMESPACE", "STATE", "CREATED", "BY", "EXPIRES", "USED"):
        table.add_column(name, no_wrap=True)
    for key in keys:
        table.add_row(
            *(key["id"], key["role"], key["namespace"], key["state"]),
            *(
                format_relative_time(key["created_at"]),
                key["created_by"],
                format_relative_time(key["expires_at"]),
                format_relative_time(key["used_at"]),
            ),
        )
    return table


def revoke(
    key_id: Annotated[
        str, typer.Argument(help="The id of the key: the part between its underscores.", metavar="ID")
    ],
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Revoke an API key. It is refused from now on.

    To revoke a key in the file named by api_keys_file, remove its line there.
    """
    revoked = call_daemon(url, lambda client: client.revoke_key(key_id))
    if as_json:
        print_json(revoked)
    else:
        print_line(f"{revoked['id']} revoked")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    keys = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")
    keys.command(
        "create",
        help=help_text(create),
        epilog=examples(
            "waitd keys create --role admin --offline",
            "waitd keys create --role submitter --namespace team_a --expires-in 90d",
            "waitd keys create --role viewer --namespace '*'",
            "waitd keys create --role viewer --json",
        ),
    )(create)
    keys.command(
        "list", help=help_text(list_keys), epilog=examples("waitd keys list", "waitd keys list --json")
    )(list_keys)
    keys.command("revoke", help=help_text(revoke), epilog=examples("waitd keys revoke 3f9a1c2b7d4e"))(revoke)
    app.add_typer(keys, name="keys")
