"""What masks of another modality make of cluster 0: with and without them, and what breaks the game, over seeds.

    python studies/shape_guided.py --seeds 0 1 2 3 4 --real

Functions, patients and settings are those of lesson 44; the settings were chosen on other generated patients. Each arm
of a seed starts from the same weights and sees the same images. `--real` adds slices: liver masks of the torso MR (one
patient) shape cluster 0 of a torso CT, judged on it and on another CT; it needs MEDSSL_DATA, and its settings were
chosen on these scans: there are no others. Results, stored after each seed: results/shape_guided.json.
"""

import argparse
import math
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl_nb.data import load_cohort
from medssl_nb.data.geometry import resample
from medssl_nb.evaluation import made_with, mean_and_interval, save_result
from medssl_nb.methods.local_discrimination import (
    LDOutput,
    ShapeDiscriminator,
    assignment_entropy,
    augment_shape_masks,
    dice_score,
    make_discrimination_batch,
    patch_discrimination_loss,
    patch_embeddings,
    pseudo_labels,
    region_discrimination_loss,
    region_embeddings,
    segment_target,
    shape_discriminator_loss,
    shape_generator_loss,
    uncertainty_weighted_bce,
)
from medssl_nb.methods.local_discrimination.networks import ClusteringHead, EmbeddingHead
from medssl_nb.networks.unet import FeatureUNet

GRID = {"shape": (24, 24, 24), "spacing_mm": (12.0, 12.0, 12.0)}
LIVER, TRAIN, TEST = 4, 16, 8
REAL_MM, REAL_SIZE = 6.0, (80, 56)
MOVES = {"flip_axes": (), "max_rotation": 10.0, "max_crop": 0.05, "threshold": 0.5}


@dataclass(frozen=True)
class Settings:
    """All that an arm may change."""

    shape: float = 5.0  # weight of the generator loss
    steps: int = 60
    pairs: int = 1
    noise: float = 0.3  # on what the discriminator looks at
    d_rate: float = 0.1  # its learning rate, as a share of the network's
    negative_slope: float = 0.2
    widths: tuple[int, ...] = (8, 16)
    rate: float = 5e-3
    num_clusters: int = 6
    patch: float = 1.0
    region: float = 1.0
    entropy: float = 0.1


ARMS = {
    "without prior": Settings(shape=0.0),
    "with prior": Settings(),
    "no noise": Settings(noise=0.0),
    "d 20 times faster": Settings(d_rate=2.0),
    "d 20 times faster, no noise": Settings(noise=0.0, d_rate=2.0),
    "slope 1": Settings(negative_slope=1.0),
    "released weights": Settings(region=10.0, shape=1.0, d_rate=0.05, noise=0.0),
    "without prior, 240 steps": Settings(shape=0.0, steps=240),
    "with prior, 240 steps": Settings(steps=240),
}
REAL = Settings(pairs=4, widths=(16, 32, 32), shape=15.0, steps=200)  # slices of 80 x 56
REFINED = ("with prior", "with prior, 240 steps")


class Task(NamedTuple):
    """What is learnt from, and what is judged: (n, 1, *S) each."""

    images: Tensor
    masks: Tensor
    judged: dict[str, tuple[Tensor, Tensor]]  # name -> images, truth
    one_volume: bool = False  # slices of one scan are judged as one


class ClusterNet(nn.Module):
    def __init__(self, dims: int, num_clusters: int):
        super().__init__()
        self.trunk = FeatureUNet(spatial_dims=dims, channels=(8, 16, 32, 64), norm="instance")
        self.embedding_head = EmbeddingHead(8, 16, dims)
        self.clustering_head = ClusteringHead(8, num_clusters, dims, mode="softmax")

    def forward(self, images: Tensor) -> LDOutput:
        features = self.trunk.features(images, "decoder_1")["decoder_1"]
        return LDOutput(self.embedding_head(features), self.clustering_head(features))


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--steps", type=int, help="of every arm, for a quick look")
    parser.add_argument("--real", action="store_true", help="also slices of the torso scans")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--name", default="shape_guided.json")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    arms = {arm: replace(ARMS[arm], steps=options.steps or ARMS[arm].steps) for arm in options.arms}
    tasks, settings = {"phantom": (generated_task(), arms)}, {"phantom": arms}
    if options.real:
        settings["torso"] = {
            arm: replace(REAL, shape=shape, steps=options.steps or REAL.steps)
            for arm, shape in (("without prior", 0.0), ("with prior", REAL.shape))
        }
        tasks["torso"] = (real_task(), settings["torso"])
    runs = [{"arm": "copied mean mask", "data": d, "seed": None, **copied(task)} for d, (task, _) in tasks.items()]
    for done, seed in enumerate(options.seeds, start=1):  # stored after each seed: a long study may be stopped
        for data, (task, changed) in tasks.items():
            runs += runs_of(task, data, changed, seed)
        result = {
            "kind": "shape_guided",
            "recipe": "none: studies/shape_guided.py",
            "method": "local_discrimination",
            "cohort": {"name": "phantom", "options": GRID, "train": TRAIN, "validation": 0, "test": TEST},
            "settings": {
                "organ": "liver",
                "masks": {data: len(task.masks) for data, (task, _) in tasks.items()},
                "moves": MOVES,
                "arms": {d: {arm: asdict(one) for arm, one in of.items()} for d, of in settings.items()},
                "torso": {"spacing_mm": REAL_MM, "slice": REAL_SIZE},
            },
            "seeds": options.seeds[:done],
            "runs": runs,
            "summary": summary(runs),
            "made_with": made_with(),
            "date": date.today().isoformat(),
        }
        print(save_result(result, options.results, options.name), flush=True)


def runs_of(task: Task, data: str, arms: dict[str, Settings], seed: int) -> list[dict]:
    """All arms with one seed, and what a fresh network makes of the pseudo-labels of some."""
    runs = []
    for arm, settings in arms.items():
        net, last = train(task, settings, seed)
        runs.append({"arm": arm, "data": data, "seed": seed, **last, **scores(task, net)})
        if arm in REFINED:
            runs += [{"data": data, "seed": seed, **run} for run in refined(task, net, arm, seed)]
        print(runs[-1], flush=True)
    return runs


def summary(runs: list[dict]) -> list[dict]:
    """Mean, interval and seeds of each arm's Dice."""
    found = []
    for data, arm in dict.fromkeys((run["data"], run["arm"]) for run in runs):
        same = [run for run in runs if (run["data"], run["arm"]) == (data, arm)]
        for name in sorted({key for run in same for key in run if key.startswith("dice")}):
            values = [run[name] for run in same]
            line = {"arm": arm, "data": data, "measure": name, "mean": sum(values) / len(values), "seeds": len(values)}
            if len(values) > 1:
                line |= {"low": mean_and_interval(values).low, "high": mean_and_interval(values).high}
            found.append(line)
    return found


# ---------------------------------------------------------------- data
def generated_task() -> Task:
    """CT patients without labels, other patients to judge on, and liver masks of ten more ("from MR")."""
    ct = load_cohort("phantom", seed=3, train=TRAIN, validation=0, test=TEST, **GRID)
    mr = load_cohort("phantom", seed=4, train=10, validation=0, test=0, **GRID)
    images, unseen = (
        torch.stack([(case.normalised().as_tensor() + 1) / 2 for case in cases]) for cases in (ct.unlabelled, ct.test)
    )
    truth, masks = (
        torch.stack([(case.label().as_tensor() == LIVER).float() for case in cases]) for cases in (ct.test, mr.train)
    )
    return Task(images, masks, {"unseen": (unseen, truth)})


def real_task() -> Task:
    """Slices at one spacing: MR masks of the liver; a CT to learn from, upper half; that CT and another one to judge.

    All labels are a network's output, and all masks come from one patient.
    """
    cohort = load_cohort("torso")
    liver = next(number for number, name in cohort.label_names.items() if name == "liver")
    grey, drawn = {}, {}
    for name in ("ct_abdomen_01", "ct_upperabdomen_02", "mr_abdomen_03"):
        case, spacing = cohort[name], (REAL_MM, REAL_MM, 4.0)
        grey[name] = slices_of((resample(case.normalised(), spacing).as_tensor() + 1) / 2)
        drawn[name] = slices_of(resample(case.label(), spacing, label=True).as_tensor() == liver)
    learnt, other = "ct_abdomen_01", "ct_upperabdomen_02"
    upper = slice(len(grey[learnt]) // 2, None)
    masks = drawn["mr_abdomen_03"]
    return Task(
        grey[learnt][upper],
        masks[masks.flatten(1).sum(1) > 50],
        {"learnt": (grey[learnt][upper], drawn[learnt][upper]), "unseen": (grey[other], drawn[other])},
        one_volume=True,
    )


def slices_of(volume: Tensor) -> Tensor:
    """Axial slices (n, 1, X, Y) of a volume (1, X, Y, Z), padded with 0 or cropped about the middle to `REAL_SIZE`."""
    slices = volume.movedim(-1, 0).float()
    missing = [want - have for want, have in zip(REAL_SIZE, slices.shape[2:], strict=True)]
    pads = [part for gap in reversed(missing) for part in (gap // 2, gap - gap // 2)]  # negative: cut off
    return F.pad(slices, pads)


def body_of(images: Tensor) -> Tensor:
    """Where there is no air; closing fills small pockets of gas."""
    pool = {2: F.max_pool2d, 3: F.max_pool3d}[images.ndim - 2]
    return -pool(-pool((images > 0.02).float(), 3, 1, 1), 3, 1, 1)


# ---------------------------------------------------------------- training
def train(task: Task, settings: Settings, seed: int) -> tuple[ClusterNet, dict]:
    """The network, and what the discriminator said on average over the last ten steps."""
    dims = task.images.ndim - 2
    torch.manual_seed(seed)
    net = ClusterNet(dims, settings.num_clusters)
    d = ShapeDiscriminator(dims, channels=settings.widths, negative_slope=settings.negative_slope)
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.rate)
    d_optimiser = torch.optim.Adam(d.parameters(), lr=settings.d_rate * settings.rate, betas=(0.5, 0.999))
    generator, chance = (torch.Generator().manual_seed(s) for s in (seed, 1000 + seed))
    said = []
    for step in range(settings.steps):
        for one, full in ((optimiser, settings.rate), (d_optimiser, settings.d_rate * settings.rate)):
            one.param_groups[0]["lr"] = full * (0.55 + 0.45 * math.cos(math.pi * step / settings.steps))
        images, bodies = draw_views(task.images, settings.pairs, generator)
        output = net(images)
        fake, terms = output.assignments[:, :1] * bodies, own_terms(output)
        if settings.shape:
            terms["shape"] = shape_generator_loss(d(noisy(fake, settings.noise, chance)))
        optimiser.zero_grad()
        sum(getattr(settings, name) * term for name, term in terms.items()).backward()
        optimiser.step()
        if settings.shape:
            turn = discriminator_turn(d, d_optimiser, fake, task.masks, settings.noise, chance)
            said.append({**turn, "generator_loss": terms["shape"].item()})
    last = said[-10:]
    return net, {name: sum(one[name] for one in last) / len(last) for name in (last[0] if last else ())}


def draw_views(images: Tensor, pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two views of each image of some pairs (4 pairs, 1, *S), nothing mirrored, and their bodies."""
    pick = torch.randint(len(images), (2 * pairs,), generator=generator)
    a, b = images[pick].chunk(2)
    grey = {"brightness": 0.3, "contrast": 0.3, "noise_std": 0.03}
    batch = make_discrimination_batch(a, b, flip_axes=(), **grey, generator=generator)
    return batch.images[: 4 * pairs], torch.cat([body_of(images[pick])] * 2)


def own_terms(output: LDOutput) -> dict[str, Tensor]:
    """What the method asks of embeddings and clusters without any mask."""
    first, second = patch_embeddings(output.embeddings, 4).chunk(2)
    return {
        "patch": patch_discrimination_loss(first, second),
        "region": region_discrimination_loss(region_embeddings(*output)),
        "entropy": assignment_entropy(output.assignments),
    }


def noisy(maps: Tensor, noise: float, chance: torch.Generator) -> Tensor:
    return maps + noise * torch.randn(maps.shape, generator=chance)


def discriminator_turn(d, optimiser, fake: Tensor, masks: Tensor, noise: float, chance) -> dict[str, float]:
    """One step of the discriminator on as many moved masks as there are maps; what it thinks of both."""
    drawn = masks[torch.randint(len(masks), (len(fake),), generator=chance)]
    moved = augment_shape_masks(drawn, rotation_axes=(0, 1), **MOVES, generator=chance)
    on_real, on_fake = d(noisy(moved, noise, chance)), d(noisy(fake.detach(), noise, chance))
    loss = shape_discriminator_loss(on_real, on_fake)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    scores = {"real_score": on_real.sigmoid().mean().item(), "fake_score": on_fake.sigmoid().mean().item()}
    return {"discriminator_loss": loss.item(), **scores}


# ---------------------------------------------------------------- reading and refining
@torch.no_grad()
def read(net: ClusterNet, images: Tensor) -> list[Tensor]:
    """Assignment and similarity of cluster 0, (n, 1, *S) each, 0 outside of the body."""
    net.eval()
    output = [net(image[None]) for image in images]
    net.train()
    embeddings, assignments = (torch.cat(maps) for maps in zip(*output, strict=True))
    return [one[:, None] for one in segment_target(embeddings, assignments, mask=body_of(images)[:, 0])]


def dice(maps: Tensor, truth: Tensor, one_volume: bool) -> float:
    """Mean over cases of the Dice of maps above 0.5, or that of all slices as one volume."""
    if one_volume:
        return float(dice_score(maps > 0.5, truth > 0.5))
    return sum(float(dice_score(m > 0.5, t > 0.5)) for m, t in zip(maps, truth, strict=True)) / len(maps)


def scores(task: Task, net: ClusterNet) -> dict[str, float]:
    """Dice of cluster 0, both readings and their mean; and with another patient's truth, where there are patients."""
    found = {}
    for name, (images, truth) in task.judged.items():
        assignment, similarity = read(net, images)
        both = {"": assignment, "_similarity": similarity, "_mean": (assignment + similarity) / 2}
        found |= {f"dice{key}_{name}": dice(maps, truth, task.one_volume) for key, maps in both.items()}
        if not task.one_volume:
            found[f"dice_next_patient_{name}"] = dice(assignment, truth.roll(1, dims=0), False)
    return found


def copied(task: Task) -> dict[str, float]:
    """Dice of the mean mask laid over every image."""
    mean = task.masks.mean(dim=0, keepdim=True)
    judged = task.judged.items()
    return {f"dice_{name}": dice(mean.expand_as(truth), truth, task.one_volume) for name, (_, truth) in judged}


def refined(task: Task, net: ClusterNet, arm: str, seed: int, steps: int = 60) -> list[dict]:
    """A fresh network on pseudo-labels of the images without labels, weighted by certainty and plain."""
    label, doubt = pseudo_labels(*read(net, task.images))
    runs = []
    for words, weighed in (("weighted", doubt), ("plain", torch.zeros_like(doubt))):
        fresh = fresh_network(task.images, label, weighed, seed, steps)
        found = {"arm": f"{arm}, refined {words}"}
        for name, (images, truth) in task.judged.items():
            with torch.no_grad():
                maps = torch.cat([fresh(image[None]).sigmoid() for image in images]) * body_of(images)
            found[f"dice_{name}"] = dice(maps, truth, task.one_volume)
        runs.append(found)
    return runs


def fresh_network(images: Tensor, label: Tensor, doubt: Tensor, seed: int, steps: int) -> FeatureUNet:
    torch.manual_seed(seed)
    dims = images.ndim - 2
    net = FeatureUNet(num_classes=1, spatial_dims=dims, channels=(8, 16, 32), norm="instance")
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        pick = torch.randint(len(images), (2,), generator=generator)
        gain = 0.7 + 0.6 * torch.rand(2, *[1] * (dims + 1), generator=generator)
        loss = uncertainty_weighted_bce(net(gain * images[pick]), label[pick], doubt[pick])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


if __name__ == "__main__":
    main()
