"""One optimiser step of pre-training: how long, on what, and how much memory beside the estimate made before a run.

    python benchmarks/bench_training_step.py --task view_contrast --side 48
    torchrun --nproc-per-node 2 benchmarks/bench_training_step.py      # the same batch, shared by two processes

A step is what `next(pretrain(...))` does: crops from volumes kept in memory, views, losses, gradients, clipping,
optimiser, record. It runs on the processor, in 32-bit floats, one thread in each process.
"""

import os
import tempfile
import time
from functools import partial
from pathlib import Path

from measuring import (
    UNET,
    cubed,
    main,
    markdown,
    memory_gb,
    peak_memory_gb,
    phantoms,
    short,
    span,
    timed,
    timed_in_turn,
    value_of,
)

CASES = (
    ("masked_autoencoding", "FeatureUNet"),
    ("view_contrast", "FeatureUNet"),
    ("masked_autoencoding", "MaskedPatchTransformer"),
)
SIZES = (
    {"side": 32, "batch": 4, "runs": 12},
    {"side": 48, "batch": 4, "runs": 6},
    {"side": 64, "batch": 4, "runs": 4},
    {"side": 96, "batch": 2, "runs": 3},
)


def plan(quick: bool) -> list[dict]:
    """Options of all measurements; "processes" is for whoever starts them."""
    if quick:
        return [{"task": "masked_autoencoding", "network": "FeatureUNet", "side": 16, "batch": 2, "runs": 2}]
    one = [{"task": task, "network": network, **size} for task, network in CASES for size in SIZES]
    unet = [options for options in one if options["network"] == "FeatureUNet"]
    single = [{**options, "batch": 1} for options in unet[:2]]  # a lone crop takes another path through PyTorch
    return [*one, *single, *({**options, "processes": 2} for options in unet)]


def measure(
    task: str = "masked_autoencoding", network: str = "FeatureUNet", side: int = 32, batch: int = 4, runs: int = 10
) -> dict | None:
    """Seconds and memory of one optimiser step on `batch` crops of `side`³ voxels."""
    import lightning_fabric  # noqa: F401  the libraries are there before the memory is read
    import torch

    from medssl_nb.methods import baselines
    from medssl_nb.networks import build_encoder
    from medssl_nb.training import Profile, estimate_memory, pretrain

    torch.manual_seed(0)
    method = {"masked_autoencoding": baselines.MaskedAutoencoding, "view_contrast": baselines.ViewContrast}[task]
    pretext = method(build_encoder(description(network, side)))
    cohort = phantoms(side * 3 // 2, train=2)
    for case in cohort.unlabelled:
        case.image()
    profile = Profile(steps=10_000, batch_size=batch, crop=(side,) * 3, check_memory=False)
    before = memory_gb()
    run = pretrain(pretext, cohort, profile, accelerator="cpu")
    next(run)
    first_step = time.process_time()  # of this process since it began: imports, data, networks, one step
    step = timed(lambda: next(run), runs)
    peak, processes = peak_memory_gb(), int(os.environ.get("WORLD_SIZE", 1))
    began = time.process_time()
    need = estimate_memory(pretext, profile, processes=processes)  # all processes: losses may gather
    estimate_cpu_s = time.process_time() - began
    outcome = {
        "step": step,
        "first_step_cpu_s": first_step,
        "memory": {
            "before_gb": before,
            "peak_gb": peak,
            "estimate_gb": need.total / 1e9,
            "peak_over_estimate": peak * 1e9 / need.total,
            "added_gb": peak - before,
            "estimate_without_libraries_gb": (need.total - need.overhead) / 1e9,
        },
        "estimate_cpu_s": estimate_cpu_s,
        "trained_numbers": need.parameters,
    }
    if processes > 1:
        return outcome if os.environ["RANK"] == "0" else None
    return {**outcome, "parts": parts(run, pretext, cohort, profile, max(runs // 2, 2))}


def description(network: str, side: int) -> dict:
    """The encoder: a narrow U-Net, or a transformer with patches of 8³ voxels."""
    if network == "FeatureUNet":
        return UNET
    size = {"volume_size": [side] * 3, "patch_size": 8, "hidden_size": 96, "layers": 4, "heads": 4}
    return {"network": network, "in_channels": 1, **size}


def parts(run, pretext, cohort, profile, runs: int) -> dict[str, dict]:
    """The same step whole and taken apart: crops, views, network (forward and backward), optimiser; a checkpoint."""
    import torch

    from medssl_nb.training.batches import CropDataset, StepSampler, batches, make_views
    from medssl_nb.training.checkpoints import write_checkpoint
    from medssl_nb.training.loop import make_optimizer

    loader = iter(batches(CropDataset(cohort.unlabelled, profile), StepSampler(profile, 0)))
    for _ in cohort.unlabelled:
        crops = next(loader)
    optimizer = make_optimizer(pretext, profile)
    views = make_views(pretext, crops, profile.seed, 0, range(len(crops.volume)))

    def forward_and_backward():
        optimizer.zero_grad()
        pretext.losses(views, 0.0)["total"].backward()

    def update():
        torch.nn.utils.clip_grad_norm_(pretext.parameters(), profile.clip_norm)
        optimizer.step()

    works = {
        "step": lambda: next(run),
        "crops": lambda: next(loader),
        "views": lambda: make_views(pretext, crops, profile.seed, 0, range(len(crops.volume))),
        "network": forward_and_backward,
        "optimizer": update,
    }
    found = timed_in_turn(works, runs)
    with tempfile.TemporaryDirectory() as folder:
        state = {"step": 1, "task": pretext.state_dict(), "optimizer": optimizer.state_dict()}
        found["checkpoint"] = timed(lambda: write_checkpoint(Path(folder), state), runs)
    return found


# ---------------------------------------------------------------- what it says
HEADS = (
    *("task", "network", "crops", "processes", "CPU s per step", "s per step", "of it network"),
    *("peak GB (before)", "estimate GB", "peak / estimate"),
)


def table(measurements: list[dict]) -> str:
    return markdown(list(HEADS), [row(one) for one in measurements])


def row(measurement: dict) -> list[str]:
    options, cell = measurement["options"], partial(value_of, measurement)
    return [
        options["task"].replace("_", " "),
        options["network"],
        f"{options['batch']} × {cubed(options['side'])}",
        str(options.get("processes", 1)),
        cell("step", "cpu_s"),
        cell("step", "wall_s"),
        f"{100 * share(measurement, 'network'):.0f} %" if "parts" in measurement.get("outcome", {}) else "",
        f"{cell('memory', 'peak_gb')} ({cell('memory', 'before_gb')})",
        cell("memory", "estimate_gb"),
        cell("memory", "peak_over_estimate"),
    ]


def share(measurement: dict, part: str) -> float:
    """Share of one part in the CPU seconds of a step, measured in turn with it."""
    found = measurement["outcome"]["parts"]
    return found[part]["cpu_s"] / found["step"]["cpu_s"]


def sentences(measurements: list[dict]) -> list[str]:
    """What stands out, from the numbers."""
    done = [one for one in measurements if "outcome" in one]
    alone = [one for one in done if "parts" in one["outcome"]]
    return [
        *time_sentences(alone),
        *memory_sentences(done),
        *lone_crop_sentences(alone),
        *process_sentences(done, alone),
    ]


def time_sentences(alone: list[dict]) -> list[str]:
    if not alone:
        return []
    network, views, crops = ([100 * share(one, part) for one in alone] for part in ("network", "views", "crops"))
    saving = [one["outcome"]["parts"]["checkpoint"]["wall_s"] for one in alone]
    return [
        f"Forward and backward pass take {span(network)} % of a step's CPU time (measured apart from the step, hence "
        f"the noise), views at most {short(max(views))} %, crops of volumes in memory at most {short(max(crops))} %. "
        f"Writing a checkpoint takes {span(saving)} s."
    ]


def memory_sentences(done: list[dict]) -> list[str]:
    if not done:
        return []
    memory = [one["outcome"]["memory"] for one in done]
    missed = [m["added_gb"] - m["estimate_without_libraries_gb"] for m in memory]
    return [
        f"The measured peak of memory is {span(m['peak_over_estimate'] for m in memory)} times the estimate. Libraries "
        f"and data held {span(m['before_gb'] for m in memory)} GB before the first step; what the steps added differs "
        f"from the estimate without libraries by {span(missed)} GB."
    ]


def lone_crop_sentences(alone: list[dict]) -> list[str]:
    """A batch of one against the same crops in a larger batch."""
    found = []
    for one in (one for one in alone if one["options"]["batch"] == 1):
        fixed = {name: one["options"][name] for name in ("task", "network", "side")}
        more = [other for other in alone if fixed.items() <= other["options"].items() and other is not one]
        found += [
            f"{short(cpu_of_a_crop(one) / cpu_of_a_crop(other))} times at {cubed(fixed['side'])}" for other in more
        ]
    return (
        [f"In a batch of one, a crop costs more CPU time than in a larger batch: {', '.join(found)}."] if found else []
    )


def cpu_of_a_crop(measurement: dict) -> float:
    return measurement["outcome"]["step"]["cpu_s"] / measurement["options"]["batch"]


def process_sentences(done: list[dict], alone: list[dict]) -> list[str]:
    ratios = [pair for one in done for pair in against_one_process(one, alone)]
    if not ratios:
        return []
    wall, cpu = zip(*ratios, strict=True)
    return [
        f"Two processes that share the batch: a step takes {span(wall)} times as long as with one process, and each of "
        f"them spends {span(cpu)} times its CPU time (0.5 would be perfect)."
    ]


def against_one_process(measurement: dict, alone: list[dict]) -> list[tuple[float, float]]:
    """Time and CPU time of a step, over those of the same measurement with one process."""
    options = measurement["options"]
    if options.get("processes", 1) == 1:
        return []
    same = {name: value for name, value in options.items() if name != "processes"}
    steps = [(measurement["outcome"]["step"], one["outcome"]["step"]) for one in alone if one["options"] == same]
    return [tuple(two[clock] / one[clock] for clock in ("wall_s", "cpu_s")) for two, one in steps]


if __name__ == "__main__":
    main(measure)
