"""How long one test case takes: prediction by a sliding window, Dice with 95 % Hausdorff distance, a linear probe.

    python benchmarks/bench_evaluation.py --work probe --side 64

The case is a generated patient. The network is an untrained U-Net, which is as fast as a trained one; the map that is
scored is the patient's own, moved by two voxels along each axis, because the distance's time depends on how much
surface a prediction has. The probe learns from one labelled case and scores one test case.
"""

from measuring import UNET, cubed, main, markdown, peak_memory_gb, phantoms, short, timed

WORKS = {"prediction": "sliding window of 32³", "scores": "Dice and HD95", "probe": "linear probe"}


def plan(quick: bool) -> list[dict]:
    """Options of all measurements."""
    if quick:
        return [{"work": "scores", "side": 16, "runs": 2}]
    return [{"work": work, "side": side, "runs": 3} for side in (32, 48, 64, 96) for work in WORKS]


def measure(work: str = "prediction", side: int = 32, runs: int = 3) -> dict:
    """Seconds and memory of one piece of work on a case of `side`³ voxels."""
    import torch

    from medssl_nb.evaluation.probes import linear_probe
    from medssl_nb.evaluation.segmentation import segmentation_scores
    from medssl_nb.evaluation.transfer import segment
    from medssl_nb.networks import Segmenter, build_encoder

    torch.manual_seed(0)
    cohort = phantoms(side, train=1, test=1)
    (labelled,), (test,), names = cohort.train, cohort.test, cohort.label_names
    encoder = build_encoder(UNET)
    network, image, label = Segmenter(encoder, len(names)), test.normalised(), test.label()
    moved, spacing = label.roll((2, 2, 2), (1, 2, 3)), (288 / side, 288 / side, 350 / side)
    works = {
        "prediction": lambda: segment(network, image, names),
        "scores": lambda: segmentation_scores(moved, label, names, spacing),
        "probe": lambda: linear_probe(encoder, [labelled], [test], names),
    }
    labelled.label()
    return {"case": timed(works[work], runs), "peak_gb": peak_memory_gb()}


# ---------------------------------------------------------------- what it says
def table(measurements: list[dict]) -> str:
    rows = [
        [cubed(side), *(text(measurements, side, work) for work in WORKS)]
        for side in sorted({one["options"]["side"] for one in measurements})
    ]
    return markdown(["case", *(f"{name}: CPU s (s, peak GB)" for name in WORKS.values())], rows)


def text(measurements: list[dict], side: int, work: str) -> str:
    for one in measurements:
        if (one["options"]["side"], one["options"]["work"]) == (side, work):
            if "failed" in one:
                return one["failed"]
            case = one["outcome"]["case"]
            return f"{short(case['cpu_s'])} ({short(case['wall_s'])} s, {short(one['outcome']['peak_gb'])} GB)"
    return ""


def sentences(measurements: list[dict]) -> list[str]:
    """What stands out, from the numbers."""
    done = [one for one in measurements if "outcome" in one]
    if not done:
        return []
    largest = max(one["options"]["side"] for one in done)
    costs = [
        f"{WORKS[one['options']['work']]} {short(one['outcome']['case']['cpu_s'])} s"
        for one in done
        if one["options"]["side"] == largest
    ]
    return [f"A test case of {cubed(largest)} voxels takes CPU time: {', '.join(costs)}."]


if __name__ == "__main__":
    main(measure)
