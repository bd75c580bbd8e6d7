"""`waitd keys`: who may come in."""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.common import DEFAULT_URL, Code, Json, Url, ask, described, examples, fail, output, put_json
from waitd.cli.display.formatting import when

if TYPE_CHECKING:
    from rich.table import Table

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(\d{1,9})([smhd]?)")


def create(
    role: Annotated[
        str, typer.Option(help="What it may do: viewer, submitter, operator or admin.", metavar="ROLE")
    ],
    namespace: Annotated[
        str, typer.Option(help="Where what comes with it belongs; '*': a viewer of all.", metavar="NAME")
    ] = "default",
    expires_in: Annotated[
        str | None,
        typer.Option(
            help="For how long it is good: 90d, 12h, 30m, or seconds; default: for ever.", metavar="TIME"
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no daemon: print the key and its line for api_keys_file.")
    ] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make an API key. It is shown this once; waitd keeps only a digest of its secret.

    The first key of a daemon is made with --offline: its line, which holds no secret, goes into the file that api_keys_file names.
    """
    seconds = _seconds(expires_in)
    if offline:
        made = _made_offline(role, namespace, seconds)
    else:
        wanted = {"role": role, "namespace": namespace}
        made = ask(
            url, lambda client: client.create_key(wanted | ({"expires_in": seconds} if seconds else {}))
        )
    if as_json:
        put_json(made)
    else:
        _print_made(made)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = _SPAN.fullmatch(text)
    if found is None or not int(found[1]):
        fail(f"--expires-in {text}: write it as 90d, 12h, 30m, or in seconds.", Code.USAGE)
    return float(int(found[1]) * _UNITS[found[2] or "s"])


def _made_offline(role: str, namespace: str, seconds: float | None) -> dict[str, Any]:
    from waitd.auth.keyring import made_key
    from waitd.core.auth.api_key import format_key_line
    from waitd.core.auth.principal import ROLES_BY_NAME, check_key_namespace
    from waitd.ports import NewKey

    if role not in ROLES_BY_NAME:
        fail(f"--role {role}: one of {', '.join(ROLES_BY_NAME)}.", Code.USAGE)
    try:
        check_key_namespace(namespace, ROLES_BY_NAME[role])
    except ValueError as error:
        fail(f"--namespace {namespace}: {error}.", Code.USAGE)
    made = made_key(NewKey(ROLES_BY_NAME[role], namespace, seconds), time.time(), "file")
    return {
        "id": made.key.id,
        "role": role,
        "namespace": namespace,
        "key": made.token,
        "line": format_key_line(made.key),
    }


def _print_made(made: Mapping[str, Any]) -> None:
    sys.stdout.write(f"{made['key']}\n")
    if "line" in made:
        sys.stderr.write(
            f"Its line for the file that api_keys_file names:\n{made['line']}\n"
            "The key itself is shown this once. Whoever uses it has it in WAITD_API_KEY.\n"
        )
    else:
        sys.stderr.write(
            f"The key {made['id']}: {made['role']} of namespace {made['namespace']}. It is shown this once.\n"
        )


def show(as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """List the API keys, newest first: whose role and namespace, until when, last used when. Never a secret."""
    found = ask(url, lambda client: client.keys())
    if as_json:
        put_json(found)
    else:
        output().print(_table(found))


def _table(keys: Sequence[Mapping[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("ID", "ROLE", "NAMESPACE", "STATE", "CREATED", "BY", "EXPIRES", "USED"):
        table.add_column(name, no_wrap=True)
    for key in keys:
        table.add_row(
            *(key["id"], key["role"], key["namespace"], key["state"]),
            *(when(key["created_at"]), key["created_by"], when(key["expires_at"]), when(key["used_at"])),
        )
    return table


def revoke(
    key_id: Annotated[
        str, typer.Argument(help="The key's id, the part between the underscores.", metavar="ID")
    ],
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Revoke an API key: from now on nobody comes in with it.

    One that stands in the file of api_keys_file is revoked by removing its line there.
    """
    revoked = ask(url, lambda client: client.revoke_key(key_id))
    if as_json:
        put_json(revoked)
    else:
        sys.stdout.write(f"{revoked['id']} revoked\n")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    keys = typer.Typer(no_args_is_help=True, help="Who may come in: API keys.")
    keys.command(
        "create",
        help=described(create),
        epilog=examples(
            "waitd keys create --role admin --offline",
            "waitd keys create --role submitter --namespace team_a --expires-in 90d",
            "waitd keys create --role viewer --namespace '*'",
            "waitd keys create --role viewer --json",
        ),
    )(create)
    keys.command("list", help=described(show), epilog=examples("waitd keys list", "waitd keys list --json"))(
        show
    )
    keys.command("revoke", help=described(revoke), epilog=examples("waitd keys revoke 3f9a1c2b7d4e"))(revoke)
    app.add_typer(keys, name="keys")
