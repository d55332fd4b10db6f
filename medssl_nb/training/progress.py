"""A progress bar with the time left, for terminals; notebooks draw `medssl_nb.widgets.TrainingMonitor` instead."""

import sys
from collections.abc import Iterable, Iterator

from medssl_nb.training.loop import StepRecord


def progress_bar(records: Iterable[StepRecord], *, stream=None) -> Iterator[StepRecord]:
    """Pass records on and show them as a bar: steps, time left, losses, collapse meters.

    In a terminal the line is redrawn and disappears at the end; written to a file or a pipe, each tenth of the run
    leaves a line of its own, so that a log stays short.
    """
    from tqdm import tqdm

    stream = stream or sys.stdout
    live = stream.isatty()
    bar, health = None, {}
    for record in records:
        health = record.health or health
        if live and bar is None:
            bar = tqdm(
                total=record.steps, initial=record.step - 1, file=stream, leave=False, unit="step", mininterval=0.2
            )
        if bar is not None:
            bar.set_postfix_str(describe(record, health), refresh=False)
            bar.update()
        elif record.step == record.steps or record.step * 10 // record.steps > (record.step - 1) * 10 // record.steps:
            left = f", {clock(record.seconds_left)} left" if record.step < record.steps else ""
            print(f"step {record.step}/{record.steps}: {describe(record, health)}{left}", file=stream, flush=True)
        yield record
    if bar is not None:
        bar.close()


def describe(record: StepRecord, health: dict[str, float]) -> str:
    """Losses and collapse meters on one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in {**record.losses, **health}.items())


def clock(seconds: float) -> str:
    """ "4 s", "3 min 20 s", "5 h 07 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
