"""Runs `waitd serve` with the name server whose address is in `TEST_NAME_SERVER`."""

import os
import sys

from waitd.app import connections
from waitd.cli import main
from waitd.outgoing import CaresLookup

server = {"servers": [os.environ["TEST_NAME_SERVER"]]}
connections.LOOKUPS = {"c-ares": lambda: CaresLookup(server)}

if __name__ == "__main__":
    if sys.argv[1:2] == ["waitd"]:  # as after `python -m`
        del sys.argv[1]
    main()
