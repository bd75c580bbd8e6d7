"""The `waitd` command, also as `python -m waitd`."""

import sys


def main() -> None:
    """The entry point. Says what to install where the command's libraries are missing."""
    hint = (
        "The command waitd needs libraries that are not installed (there is no {}): pip install 'waitd[client]' for the "
        "commands that call a daemon, or 'waitd[server]' for all.\n"
    )
    try:
        from waitd.cli import main as run_command  # noqa: PLC0415 - an Airflow lacks its libraries

        hint = "This needs the daemon, which is not installed (there is no {}): pip install 'waitd[server]'\n"
        run_command()
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in {"", "waitd"}:
            raise
        sys.stderr.write(hint.format(library))
        sys.exit(2)


if __name__ == "__main__":
    main()
