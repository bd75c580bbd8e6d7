"""`python -m waitd`: the same as the `waitd` command."""

from waitd.cli import main

if __name__ == "__main__":
    main()
