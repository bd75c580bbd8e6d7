"""The consoles of all commands, which let no text control the terminal."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from waitd.core.visible_text import visible_lines


class SafeConsole(Console):
    """Makes visible what is left of control characters in anything that it prints.

    Tables measure their cells before: what fills them is passed through `visible_values`, so that
    columns stay aligned.
    """

    def print(self, *objects: Any, soft_wrap: bool | None = None, **how: Any) -> None:
        """See `Console.print`. Without a terminal, text is not wrapped; only tables are."""
        if soft_wrap is None:
            soft_wrap = not self.is_terminal and all(isinstance(part, str | Text) for part in objects)
        super().print(*objects, soft_wrap=soft_wrap, **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console.render`."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else visible_lines(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)
