"""What stands in for a kind whose libraries are missing."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from waitd.core.errors import InvalidInput
from waitd.core.waits.verdict import Unreachable, Verdict
from waitd.ports import Pokeable


class NotInstalled:
    """Stands in for a kind whose libraries are missing: refuses every wait, and names the extra that brings them."""

    def __init__(self, kind: str, extra: str) -> None:
        self._message = f"the kind {kind} is not installed here; it comes with pip install 'waitd[{extra}]'"

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> NoReturn:  # noqa: ARG002 - the port's shape
        """Raises InvalidInput."""
        raise InvalidInput.at("", self._message)

    def origin(self, target: Any) -> str:  # noqa: ARG002 - the port's shape
        """One queue for what nobody can poke."""
        return "not installed"

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """Says so, without asking anybody."""
        return [Unreachable("not_installed", f"{self._message}.")] * len(group)
