"""The page of presets, generated from their files.

`python tests/preset_page.py` writes it, and `test_preset_page.py` compares it with the files.
"""

import sys

from waitd.probes.presets.loading import BUILT_IN, built_in_presets
from waitd.probes.presets.page import page

PAGE = BUILT_IN.parent / "README.md"

if __name__ == "__main__":
    PAGE.write_text(page(built_in_presets()), "utf-8")
    sys.stdout.write(f"{PAGE} is up to date\n")
