"""Checkpoints that hold everything, are never half-written, and are read without unpickling objects."""

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from medssl_nb.data.files import write_atomically

CHECKPOINT, HISTORY, ENCODER = "checkpoint.pt", "history.jsonl", "encoder.safetensors"
FORMAT = 1


def write_checkpoint(folder: Path, state: Mapping) -> Path:
    """Replace the checkpoint in `folder` in one step; a reader, or a power cut, finds the old one or the new one."""
    return write_atomically(folder / CHECKPOINT, lambda draft: _write({"format": FORMAT, **state}, draft))


def _write(state: dict, draft: Path) -> None:
    try:
        with draft.open("wb") as stream:
            torch.save(state, stream)
    except RuntimeError as error:  # "unexpected pos 640 vs 598" is what PyTorch makes of a full disk
        cause = error.__context__
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(draft)) from None
        raise


def read_checkpoint(folder: str | os.PathLike) -> dict | None:
    """The checkpoint in `folder`, tensors on the CPU; None if there is none.

    Raises:
        ValueError: a file that is not a checkpoint of this program.
    """
    path = Path(folder) / CHECKPOINT
    if not path.exists():
        return None
    with path.open("rb") as stream:  # a file that may not be read says so itself
        try:
            _check_bytes(stream)
            state = torch.load(stream, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # of broken bytes PyTorch says IndexError, KeyError, OSError, AssertionError, ...
            # ... and what it says is long, and advises to unpickle them
            raise ValueError(
                f"{path} is damaged or no checkpoint ({type(error).__name__}). Move it away to start this run anew."
            ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise ValueError(
            f"{path} has format {found!r}; this program reads {FORMAT}. Move it away to start this run anew."
        )
    return state


def _check_bytes(stream) -> None:
    """Compare every part with its checksum: PyTorch writes checksums, but reads weights with a wrong bit in silence."""
    with zipfile.ZipFile(stream) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
    stream.seek(0)


def check_same_run(folder: Path, stored: Mapping, wanted: Mapping) -> None:
    """Refuse to continue a run whose settings were others.

    Raises:
        ValueError: names each setting that differs, with both values.
    """
    before, now = _flat(stored), _flat(wanted)
    names = sorted({*before, *now}, key=lambda k: ("." in k, k))  # of another task first that it is another
    differ = [k for k in names if before.get(k) != now.get(k)]
    if differ:
        pairs = "; ".join(f"{k} was {before.get(k)!r} and is now {now.get(k)!r}" for k in differ[:5])
        raise ValueError(
            f"{folder} holds a run with other settings: {pairs}. Go on with the old settings, or give another folder."
        )


def _flat(values: Mapping, prefix: str = "") -> dict:
    found = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def clear_drafts(folder: Path) -> None:
    """Remove what a killed process left of an unfinished write. Call only while no other process writes here."""
    for draft in folder.glob(".writing-*"):
        shutil.rmtree(draft, ignore_errors=True)


# ---------------------------------------------------------------- history: one JSON record per step
def append_history(folder: Path, record: Mapping) -> None:
    """Add one step to the history."""
    with (folder / HISTORY).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")
        if record.get("checkpoint"):
            stream.flush()
            os.fsync(stream.fileno())  # a power cut must not leave a checkpoint without the steps before it


def read_history(folder: str | os.PathLike, until: int | None = None) -> list[dict]:
    """Records of the steps done, oldest first, up to step `until`. A last line that a kill cut in two is left out."""
    path = Path(folder) / HISTORY
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break  # only the last line can be cut
        if until is None or record["step"] <= until:
            records.append(record)
    return records


def cut_history(folder: Path, until: int) -> None:
    """Forget the steps after `until`: the checkpoint knows nothing of them and they will be done again."""
    records = read_history(folder, until)
    write_atomically(folder / HISTORY, lambda draft: draft.write_text("".join(json.dumps(r) + "\n" for r in records)))
