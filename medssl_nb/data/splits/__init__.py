"""Which cases train, choose and test: fixed lists for known data sets, a repeatable draw for any other."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

DRAWS = 3  # few-shot numbers are averaged over this many choices of the labelled cases


@dataclass(frozen=True)
class Split:
    """Names of the cases of each part. `few_shot[d]` lists training cases in the order in which draw d labels them."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    few_shot: tuple[tuple[str, ...], ...]


def shipped_split(name: str) -> Split | None:
    """The fixed split that comes with the package for data set `name`, or None."""
    file = resources.files(__name__) / f"{name}.json"
    return _from_json(json.loads(file.read_text()), f"the split of {name}") if file.is_file() else None


def read_split(path: Path) -> Split:
    """Read `splits.json`: lists "train", "validation", "test", and "few_shot" (nested labelled subsets of train)."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}); repair it, or remove it to get a drawn split."
        ) from error
    return _from_json(content, str(path))


def draw_split(subjects: Mapping[str, str]) -> Split:
    """Split cases 70 : 10 : 20 by subject, the same way on every machine and at every call.

    Each subject's place follows from a hash of its name, so a subject keeps its place relative to the others when
    scans are added. From 3 subjects on, each part has at least one.

    Args:
        subjects: case name -> subject name.
    """
    order = sorted(set(subjects.values()), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    n_test = max(round(0.2 * len(order)), 1) if len(order) >= 3 else 0
    n_validation = max(round(0.1 * len(order)), 1) if len(order) >= 3 else 0
    part_of = {s: "test" for s in order[:n_test]}
    part_of |= {s: "validation" for s in order[n_test : n_test + n_validation]}
    parts = {"train": [], "validation": [], "test": []}
    for case in sorted(subjects):
        parts[part_of.get(subjects[case], "train")].append(case)
    train = tuple(parts["train"])
    return Split(train, tuple(parts["validation"]), tuple(parts["test"]), draw_few_shot(train, subjects))


def draw_few_shot(train: Iterable[str], subjects: Mapping[str, str] | None = None) -> tuple[tuple[str, ...], ...]:
    """`DRAWS` orders in which training cases get their labels; a subject comes back only when each has come once."""
    train = list(train)
    orders = []
    for draw in range(DRAWS):
        shuffled = [train[i] for i in np.random.default_rng([2024, draw]).permutation(len(train))]
        seen: dict[str, int] = {}
        turn = {}
        for case in shuffled:
            subject = subjects[case] if subjects else case
            turn[case] = seen[subject] = seen.get(subject, -1) + 1
        orders.append(tuple(sorted(shuffled, key=turn.__getitem__)))  # sorted keeps the shuffled order inside a turn
    return tuple(orders)


def check_split(split: Split, subject_of: Callable[[str], str], known: Iterable[str], source: str) -> None:
    """Raise ValueError if a case is missing, stands in two parts, or if a subject straddles parts."""
    known = set(known)
    place: dict[str, tuple[str, str]] = {}
    for part in ("train", "validation", "test"):
        for case in getattr(split, part):
            if case not in known:
                raise ValueError(
                    f"{source}: case {case!r} of {part!r} has no labelled image here; complete the folder or the list."
                )
            subject = subject_of(case)
            other_part, other_case = place.setdefault(subject, (part, case))
            if other_part != part:
                raise ValueError(
                    f"{source}: subject {subject!r} is in two parts ({other_case} in {other_part}, {case} in {part}); "
                    "test scores would come out too good. Keep all its cases in one part."
                )
        if len(set(getattr(split, part))) < len(getattr(split, part)):
            raise ValueError(f"{source}: {part!r} names a case twice; list each case once.")
    for number, order in enumerate(split.few_shot):
        if len(set(order)) < len(order):
            raise ValueError(f"{source}: few-shot draw {number} names a case twice; list each case once.")
        strangers = sorted(set(order) - set(split.train))
        if strangers:
            raise ValueError(f"{source}: few-shot draw {number} labels {strangers[0]!r}, which is not in 'train'.")


def _from_json(content: dict, source: str) -> Split:
    try:
        parts = {part: tuple(content[part]) for part in ("train", "validation", "test")}
    except (KeyError, TypeError) as error:
        raise ValueError(f'{source} needs the lists "train", "validation" and "test"; missing: {error}.') from error
    draws = content.get("few_shot") or ()  # none: drawn later, when the subjects are known
    draws = draws.values() if isinstance(draws, dict) else draws
    return Split(**parts, few_shot=tuple(tuple(_chain(draw, source)) for draw in draws))


def _chain(draw, source: str) -> list[str]:
    """One order from nested subsets {"1": [...], "2": [...]}; a list is one already."""
    if not isinstance(draw, dict):
        return list(draw)
    order: list[str] = []
    for count in sorted(draw, key=int):
        if not set(order) <= set(draw[count]):
            raise ValueError(
                f"{source}: the {count} labelled cases do not contain the smaller set; subsets must be nested."
            )
        order += [case for case in draw[count] if case not in order]
    return order
