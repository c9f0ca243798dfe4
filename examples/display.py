"""What a run shows: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINES_PER_RUN = 20


class Display:
    """Where a run's lines and its progress go.

    Args:
        total: the run's last step.
        shown: false for a process that prints nothing.
    """

    def __init__(self, total: int, *, shown: bool) -> None:
        self.total = total
        self.console = Console(quiet=not shown)
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total, losses="")
        self._interval = max(1, total // _LINES_PER_RUN)
        self._held_out = ""

    def __enter__(self) -> Display:
        """Show the bar where there is one."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print one line as it is, above the bar."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(self, step: int) -> None:
        """Move the bar to `step`."""
        self._progress.update(self._task, completed=step)

    def losses(self, step: int, train: float, rate: float) -> None:
        """Show the training loss, in bits per byte, and `rate`, in tokens per second."""
        text = f"loss {train:.3f} bits/byte  {rate:,.0f} tokens/s"
        self._progress.update(self._task, losses=text + self._held_out)
        if not self.console.is_terminal and (step % self._interval == 0 or step == self.total):
            self.say(f"step {step}/{self.total}  {text}")

    def evaluated(self, step: int, held_out: float) -> None:
        """Show the held-out loss, in bits per byte."""
        self._held_out = f"  held out {held_out:.3f}"
        if not self.console.is_terminal:
            self.say(f"step {step}/{self.total}  held out {held_out:.3f} bits/byte")
