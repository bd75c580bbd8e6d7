"""Runs the `waitd` command as `python -m waitd`."""

from waitd.cli import main

if __name__ == "__main__":
    main()
