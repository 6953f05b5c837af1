"""What a bar on a terminal shows beside itself. Apart, since rich is imported when it is first needed."""

from __future__ import annotations

from rich.progress import DownloadColumn, MofNCompleteColumn, ProgressColumn, Task
from rich.text import Text


class AmountColumn(ProgressColumn):
    """How much is done: bytes of a download in their units, other work as done/total."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._count = DownloadColumn(), MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        return (self._bytes if task.fields.get("in_bytes") else self._count).render(task)
