"""The consoles of all commands, which let no text control the terminal."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from waitd.core.visible_text import visible_lines


class SafeConsole(Console):
    """Makes visible what is left of control characters in anything that it prints.

    Tables measure their cells before: what fills them is passed through `visible_values`, so that
    columns stay aligned.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console.render`."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else visible_lines(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)
