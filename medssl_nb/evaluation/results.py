"""Files of measured results: one JSON per measurement, with all that is needed to read its numbers later."""

import json
import math
import numbers
import os
import platform
import re
from datetime import date
from importlib import metadata
from pathlib import Path

import medssl_nb
from medssl_nb.data.files import write_atomically
from medssl_nb.machine import commit_of

RESULT_KEYS: dict[str, type] = {
    "kind": str,
    "recipe": str,
    "method": str,
    "cohort": dict,
    "settings": dict,
    "seeds": list,
    "runs": list,
    "made_with": dict,
    "date": str,
}
COHORT_KEYS = ("name", "options", "train", "validation", "test")
# What one run of a kind holds at least; runs of other kinds are any dictionaries.
RUN_KEYS: dict[str, tuple[str, ...]] = {
    "transfer": ("start", "labelled", "draw", "seed", "steps", "curve", "chosen_step", "test"),
    "probe": ("start", "labelled", "draw", "seed", "mean_dice"),
    "landmarks": ("start", "template", "seed", "mean_mm", "copy_mm"),
}
TEST_KEYS = ("dice", "hd95_mm", "mean_dice", "mean_hd95_mm", "cases")  # of a transfer run's "test"


def made_with(*, processes: int = 1, precision: str = "32-true", device=None) -> dict[str, str | int | None]:
    """What a result was made with: versions, the commit, the hardware. No name of a host, a user or a folder.

    Args:
        processes: how many processes trained together.
        precision: as Lightning Fabric names it: "32-true", "bf16-mixed", ...
        device: torch device, or its name, on which the networks ran; None is the processor.

    Returns:
        Strings under medssl_nb, commit, python, torch, monai, device, cpu, precision; numbers under processes and
        threads (torch's threads in this process). The commit ends with "+changes" if files of the checkout, besides
        those in results/, differ from it; it is None where the package does not run from a git checkout.

    Raises:
        ValueError: a device that is not there.
    """
    import torch

    return {
        "medssl_nb": medssl_nb.__version__,
        "commit": commit_of(Path(medssl_nb.__file__).parent),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "monai": metadata.version("monai"),
        "device": _device_name(device),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "precision": precision,
    }


def save_result(result: dict, folder: str | os.PathLike = "results", name: str | None = None) -> Path:
    """Write a result as JSON, in one step; the same result gives the same bytes.

    Keys are sorted and floats rounded to 6 significant digits. A file of the same name is replaced: the default name
    is that of the measurement, so measuring again updates it.

    Args:
        result: the keys of `RESULT_KEYS`; "runs" as in `RUN_KEYS`; None where a score is not defined.
        folder: made if it is not there.
        name: file name; None is "<kind>_<recipe>_<cohort>.json".

    Returns:
        The path written.

    Raises:
        ValueError: what is missing, NaN, or cannot be kept as JSON, and where in `result` it stands.
    """
    check_result(result)
    if name is None:  # a cohort from a folder may be named by its path
        name = re.sub(r"[^\w.-]+", "-", f"{result['kind']}_{result['recipe']}_{result['cohort']['name']}").strip("-.")
    elif not name or Path(name).name != name:
        raise ValueError(f"name is a file name without folders, got {name!r}; the folder is the second argument.")
    name = name if name.endswith(".json") else f"{name}.json"
    text = json.dumps(_plain(result, "result"), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    return write_atomically(Path(folder) / name, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))


def load_results(folder: str | os.PathLike = "results", kind: str | None = None) -> list[dict]:
    """Results in a folder, in the order of their file names; other JSON files (without "kind") are passed over.

    Args:
        folder: looked at without its sub-folders.
        kind: only results of this kind: "transfer", "probe", "landmarks", ...

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a broken file, by name.
    """
    found, _ = result_files(folder)
    return [result for result in found.values() if kind is None or result["kind"] == kind]


def result_files(folder: str | os.PathLike = "results") -> tuple[dict[str, dict], dict[str, object]]:
    """({file name: result}, {file name: contents of a JSON file that is no result, such as a benchmark's}).

    Raises:
        As `load_results`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; name the one that holds result files.")
    results, others = {}, {}
    for path in sorted(folder.glob("*.json"), key=lambda path: path.name):
        contents = _read_json(path)
        if isinstance(contents, dict) and "kind" in contents:
            try:
                check_result(contents)
            except ValueError as error:
                raise ValueError(f"{path.name} is no whole result: {error} Measure again, or remove it.") from error
            results[path.name] = contents
        else:
            others[path.name] = contents
    return results, others


def check_result(result: dict) -> None:
    """Raise ValueError unless `result` holds what a result file must, saying what is missing and where."""
    if not isinstance(result, dict):
        raise ValueError(f"a result is a dictionary, got {type(result).__name__}.")
    _need(result, RESULT_KEYS, "the result")
    for key, kind in RESULT_KEYS.items():
        if not isinstance(result[key], kind):
            raise ValueError(f"result[{key!r}] must be of type {kind.__name__}, got {result[key]!r:.60}.")
    _need(result["cohort"], COHORT_KEYS, "result['cohort']")
    if not _is_date(result["date"]):
        raise ValueError(f"result['date'] is YYYY-MM-DD, got {result['date']!r}; datetime.date.today().isoformat().")
    for number, run in enumerate(result["runs"]):
        _check_run(run, result["kind"], f"result['runs'][{number}]")


def _check_run(run: dict, kind: str, where: str) -> None:
    if not isinstance(run, dict):
        raise ValueError(f"{where} must be a dictionary, got {type(run).__name__}.")
    _need(run, RUN_KEYS.get(kind, ()), where)
    if "labelled" in RUN_KEYS.get(kind, ()):
        labelled = run["labelled"]
        if labelled != "all" and (not isinstance(labelled, int) or labelled < 1):
            raise ValueError(f'{where}["labelled"] is a number of cases from 1, or "all"; got {labelled!r}.')
    if kind == "transfer":
        if not isinstance(run["test"], dict):
            raise ValueError(f'{where}["test"] must be a dictionary, got {run["test"]!r:.60}.')
        _need(run["test"], TEST_KEYS, f'{where}["test"]')


def _need(found: dict, wanted, where: str) -> None:
    missing = [key for key in wanted if key not in found]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}; it has {', '.join(map(str, found)) or 'nothing'}.")


def _plain(value, where: str):
    """`value` as JSON can hold it, floats rounded; ValueError with the place of what it cannot hold."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {float(value)}; a score that is not defined is None, a failed run no result.")
        return float(f"{float(value):.6g}")
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, dict):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:  # JSON would turn 1 into "1", and the file would not say what was measured
            raise ValueError(f"{where} has the key {wrong!r}; keys in JSON are text: write {str(wrong)!r}.")
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    hint = "float(x) or x.tolist() makes plain numbers of a tensor or an array"
    raise ValueError(f"{where} is of type {type(value).__name__}, which JSON does not know; {hint}.")


def _read_json(path: Path):
    def refuse(word: str):
        raise ValueError(f"it holds {word}, which is no JSON number")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except ValueError as error:  # broken JSON and broken UTF-8 too
        raise ValueError(f"{path.name} cannot be read as JSON: {error}. Measure again, or remove it.") from error


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _device_name(device) -> str:
    import torch

    device = torch.device("cpu" if device is None else device)
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            raise ValueError(f"there is no device {device}: torch sees {count} GPUs here.")
        return torch.cuda.get_device_name(device)
    return "Apple GPU (MPS)" if device.type == "mps" else device.type


def _cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    if cpuinfo.is_file():  # Linux, where platform.processor() says no more than x86_64, or nothing
        names = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
        if names:
            return names[0].strip()
    return platform.processor() or platform.machine()
