"""Few-label transfer: the one protocol by which every method, and no pre-training at all, is judged.

An encoder becomes a segmentation network (`medssl_nb.networks.Segmenter`), is fine-tuned on a few labelled training
cases, and is scored on the test cases. What keeps the comparison honest:

- **Pairs.** Whatever is random in a run follows from (seed, draw, number of labels, step), never from the encoder: with
  and without pre-training a run sees the same crops in the same order and starts from the same segmentation head.
- **Choice on validation.** The weights kept are those of the step with the best mean Dice on the validation cases.
- **Test once.** The test cases are read and predicted once, with those weights, after everything is chosen.
"""

import copy
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from medssl_nb.data.augment import apply_affine, jitter_intensity, random_affine
from medssl_nb.data.cohorts import Case, Cohort
from medssl_nb.data.crops import random_crop
from medssl_nb.data.geometry import spacing_mm
from medssl_nb.evaluation.segmentation import segmentation_scores, summarise_scores
from medssl_nb.networks.build import size_multiple
from medssl_nb.networks.segmenter import Segmenter


@dataclass(frozen=True)
class TransferSettings:
    """How fine-tuning runs; `dataclasses.asdict` of it goes into every result file, `TransferSettings(**that)` back.

    Attributes:
        steps: gradient steps of each run.
        batch_size: crops of each step; labelled cases take turns in a shuffled order, each as often as the others.
        crop: voxels of a training crop and of the window that slides over a whole volume to predict it.
        learning_rate: of AdamW, the highest of the one-cycle schedule (`torch.optim.lr_scheduler.OneCycleLR`).
        encoder_learning_rate: the same for the encoder; None: as `learning_rate`.
        weight_decay: of AdamW.
        clip_norm: gradients longer than this, all parameters together, are shortened to it; None: as they are. A
            guard against single wild steps; most gradients are shorter than 1.
        cross_entropy: weight of the cross-entropy beside the Dice loss of the organs. A large one lets a short run
            settle on "nearly all is background" and miss an organ for good.
        class_balance: a class that fills the share f of the labelled cases weighs f ** -class_balance in the
            cross-entropy (the weights of all classes average 1): 0 all alike, 1 rare ones most. The Dice loss hardly
            pulls at an organ whose probability has sunk. Where runs lose an organ, 0.5 may bring it back; where they do
            not, it costs a little, since organs are drawn too large at first. Choose on validation.
        evaluate_at: steps after which the validation cases are predicted, rising, the last one `steps`.
        freeze_encoder: train only what `Segmenter` adds.
        foreground: share of the crops that lie around a labelled voxel (an organ is drawn first, then a voxel of it, so
            that small organs come as often as large ones); the others lie anywhere.
        scale, rotation_degrees, flip_axes: views of the training crops, see `medssl_nb.data.augment.random_affine`.
            No mirror images by default, since left and right organs carry names.
        brightness, contrast, noise_std: see `medssl_nb.data.augment.jitter_intensity`.
        overlap: share by which neighbouring windows of a prediction overlap.
        organs: names to learn and to score, the others become background; None: all of the cohort.
        undrawn: what it means that an organ has no voxel in the whole label map of a training case. "unknown": nobody
            drew it, so it may lie wherever the map says background (head-and-neck sets: larynx, oesophagus); there the
            loss takes background and that organ for one class. "background": it is not in the picture.
    """

    steps: int = 60
    batch_size: int = 2
    crop: tuple[int, ...] = (32, 32, 32)
    learning_rate: float = 1e-2
    encoder_learning_rate: float | None = None
    weight_decay: float = 1e-2
    clip_norm: float | None = None
    cross_entropy: float = 0.3
    class_balance: float = 0.0
    evaluate_at: tuple[int, ...] = (15, 30, 60)
    freeze_encoder: bool = False
    foreground: float = 0.5
    scale: tuple[float, float] = (0.85, 1.2)
    rotation_degrees: float | tuple[float, ...] = 10.0
    flip_axes: tuple[int, ...] = ()
    brightness: float = 0.2
    contrast: float = 0.2
    noise_std: float = 0.05
    overlap: float = 0.25
    organs: tuple[str, ...] | None = None
    undrawn: Literal["unknown", "background"] = "unknown"

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, list):  # as JSON gives them back
                object.__setattr__(self, name, tuple(value))
        _check_settings(self)


def _check_settings(s: TransferSettings) -> None:
    counts = (s.steps, s.batch_size, *s.crop)
    if any(not isinstance(n, int) or n < 1 for n in counts):
        raise ValueError(f"steps, batch_size and crop count from 1, got {s.steps}, {s.batch_size} and {s.crop}.")
    at = list(s.evaluate_at)
    if not at or at != sorted(set(at)) or at[0] < 1 or at[-1] != s.steps:
        raise ValueError(
            f"evaluate_at rises from at least 1 to steps={s.steps} (steps after the last look at validation would be "
            f"trained in vain), got {s.evaluate_at}."
        )
    rates = [r for r in (s.learning_rate, s.encoder_learning_rate) if r is not None]
    weights = (s.weight_decay, s.cross_entropy)
    if not all(0 < r < math.inf for r in rates) or not all(0 <= w < math.inf for w in weights):
        raise ValueError(
            "learning rates lie above 0, weight_decay and cross_entropy count from 0, got "
            f"{rates} and {weights}; to keep the encoder as it is, say freeze_encoder=True."
        )
    if s.clip_norm is not None and not 0 < s.clip_norm < math.inf:
        raise ValueError(f"clip_norm is a length above 0, or None to clip nothing; got {s.clip_norm}.")
    if not 0 <= s.class_balance <= 2:
        raise ValueError(f"class_balance is a power from 0 (all classes alike) to 2, got {s.class_balance}.")
    if not (0 <= s.foreground <= 1 and 0 <= s.overlap < 1):
        raise ValueError(f"foreground lies in [0, 1] and overlap in [0, 1), got {s.foreground} and {s.overlap}.")
    if s.undrawn not in ("unknown", "background"):
        raise ValueError(f'undrawn is "unknown" or "background", got {s.undrawn!r}.')
    # Ranges of the views are checked where they are used; once here, before anything is trained.
    views = {"scale": s.scale, "rotation_degrees": s.rotation_degrees, "flip_axes": s.flip_axes}
    random_affine(1, s.crop, **views, generator=torch.Generator())
    strengths = {"brightness": s.brightness, "contrast": s.contrast, "noise_std": s.noise_std}
    jitter_intensity(torch.zeros(1, 1, 1), **strengths, generator=torch.Generator())


class Trained(NamedTuple):
    """A fine-tuned network with the weights of its best validation step, in `eval()` mode."""

    network: nn.Module
    curve: list[list[float]]  # [step, mean Dice of the validation cases]
    chosen_step: int


def few_label_transfer(
    encoder: nn.Module | Callable[[int], nn.Module],
    cohort: Cohort,
    *,
    labelled: Sequence[int | str] = (1, 2, 4, 8),
    draws: int = 3,
    seeds: Sequence[int] = (0, 1, 2),
    settings: TransferSettings = TransferSettings(),
    start: str = "random",
    device: torch.device | str = "cpu",
    progress: Callable[[int, int, dict], object] | None = None,
    store: str | os.PathLike | None = None,
) -> list[dict]:
    """Fine-tune and test for each number of labels, draw of the labelled cases and seed.

    Two calls that differ in nothing but `encoder` and `start` are pairs, run by run. Volumes are read once and stay in
    memory during the call.

    Args:
        encoder: a pre-trained encoder (each run works on a copy, it is never changed), or a function of the seed that
            makes one, for random weights.
        cohort: with training, validation and test cases.
        labelled: numbers of labelled cases; "all" for the ceiling, every training label (one draw).
        draws: how many choices of the labelled cases.
        seeds: each draw is repeated with each seed.
        settings: the same for all that shall be compared.
        start: what the encoder started from; "random" is no pre-training.
        device: where the network lives.
        progress: called after each run with (runs done, runs planned, record).
        store: a JSON-lines file. Each finished run is appended at once and skipped by the next call, so that an
            interruption costs one run. It may hold several starts, but only one protocol and one cohort.

    Returns:
        One record for each run, see `finetune`; "labelled" is "all" for the ceiling.

    Raises:
        ValueError: a cohort without validation or test cases, fewer labelled cases or draws than asked for, an encoder
            that does not fit the volumes, a `store` of other settings, data or weights.
    """
    plan = _plan(cohort, labelled, draws, seeds)
    at_seed = partial(_encoder_for, encoder)
    volumes = _Volumes(cohort.label_names, settings)
    shelf = None if store is None else _Store(Path(store), start, _protocol(cohort, settings))
    records = []
    for done, run in enumerate(plan, 1):
        own = at_seed(run.seed)
        record = shelf.find(run, own) if shelf else None
        if record is None:
            cases = (run.cases, cohort.validation, cohort.test)
            record = _finetuned(own, cases, volumes, settings, run.seed, run.draw, start, device)
            record["labelled"] = run.labelled
            if shelf:
                shelf.add(record, own)
        records.append(record)
        if progress is not None:
            progress(done, len(plan), record)
    return records


def finetune(
    encoder: nn.Module,
    labelled_cases: Sequence[Case],
    validation_cases: Sequence[Case],
    test_cases: Sequence[Case],
    label_names: Mapping[int, str],
    settings: TransferSettings = TransferSettings(),
    *,
    seed: int = 0,
    draw: int = 0,
    start: str = "random",
    device: torch.device | str = "cpu",
) -> dict:
    """One fine-tuning and its test.

    Args:
        encoder: a module with the encoder face (see `medssl_nb.networks`); a copy of it is trained.
        labelled_cases, validation_cases, test_cases: to train, to choose, to report; no subject in two of them.
        label_names: number -> organ; 0 is background.
        seed, draw: name the run's random numbers.

    Returns:
        A record of plain numbers: {"start", "labelled", "draw", "seed", "steps", "curve": [[step, validation mean
        Dice], ...], "chosen_step", "test": what `summarise_scores` says of the test cases, "seconds"}. None stands for
        "not defined".

    Raises:
        ValueError: no cases, a subject in two parts, an encoder that does not fit, labels without a name.
    """
    cases = (labelled_cases, validation_cases, test_cases)
    return _finetuned(encoder, cases, _Volumes(label_names, settings), settings, seed, draw, start, device)


def train_segmenter(
    encoder: nn.Module,
    labelled_cases: Sequence[Case],
    validation_cases: Sequence[Case],
    label_names: Mapping[int, str],
    settings: TransferSettings = TransferSettings(),
    *,
    seed: int = 0,
    draw: int = 0,
    device: torch.device | str = "cpu",
) -> Trained:
    """The training half of `finetune`: Dice + cross-entropy on random crops, best validation step kept."""
    return _trained(
        encoder, labelled_cases, validation_cases, _Volumes(label_names, settings), settings, seed, draw, device
    )


def segment(
    network: nn.Module,
    image: Tensor,
    label_names: Mapping[int, str],
    settings: TransferSettings = TransferSettings(),
) -> Tensor:
    """Label map (1, X, Y, Z) int32 in the numbers of `label_names`, of a normalised image (C, X, Y, Z)."""
    numbers = torch.tensor(list(_classes(label_names, settings.organs)), dtype=torch.int32)
    device = next(network.parameters()).device
    return numbers[_predicted(network, image, settings, device).long()]


# ------------------------------------------------------------ one run


def _finetuned(encoder, cases, volumes: "_Volumes", settings, seed: int, draw: int, start: str, device) -> dict:
    started = time.perf_counter()
    labelled, validation, test = cases
    _check_parts(labelled, validation, test)
    trained = _trained(encoder, labelled, validation, volumes, settings, seed, draw, device)
    return {
        "start": start,
        "labelled": len(labelled),
        "draw": draw,
        "seed": seed,
        "steps": settings.steps,
        "curve": trained.curve,
        "chosen_step": trained.chosen_step,
        "test": _test_scores(trained.network, test, volumes, settings, torch.device(device)),
        "seconds": time.perf_counter() - started,
    }


def _trained(encoder, labelled, validation, volumes: "_Volumes", settings, seed: int, draw: int, device) -> Trained:
    device, key = torch.device(device), (seed, draw, len(labelled))
    _check_encoder(encoder, settings, volumes.image(labelled[0]))
    with _own_chance(device):
        _seed_all(_number("head", *key), device)
        network = Segmenter(copy.deepcopy(encoder), len(volumes.names)).to(device)
        optimiser, schedule = _optimiser(network, settings)
        class_maps = [volumes.classes(case) for case in labelled]
        loss_function = _loss_function(settings, class_maps, len(volumes.names)).to(device)
        curve, best, kept = [], -1.0, None
        for step in range(1, settings.steps + 1):
            _seed_all(_number("step", *key, step), device)  # for dropout, should the encoder have some
            network.train()
            if settings.freeze_encoder:
                network.encoder.eval()  # its running statistics stay too
            image, target, drawn = _batch(labelled, volumes, settings, key, step, device)
            loss = loss_function(merge_undrawn(network(image), drawn), target)
            if not loss.isfinite():
                raise ValueError(f"the loss is {loss.item()} at step {step}; lower learning_rate, look at the images.")
            optimiser.zero_grad()
            loss.backward()
            if settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
            optimiser.step()
            schedule.step()
            if step in settings.evaluate_at:
                dice = _validation_dice(network, validation, volumes, settings, device)
                curve.append([step, dice])
                if dice > best:
                    best, kept = dice, (step, copy.deepcopy(network.state_dict()))
    network.load_state_dict(kept[1])
    return Trained(network.eval(), curve, kept[0])


def merge_undrawn(logits: Tensor, drawn: Tensor) -> Tensor:
    """Logits with the probability of undrawn organs added to the background's, and none left to them.

    Args:
        logits: (B, K, *S), class 0 is background.
        drawn: (B, K) bool, False for the organs that nobody drew in that sample.

    Returns:
        (B, K, *S) for a loss with softmax: a voxel called background may be an undrawn organ without being punished.
    """
    if drawn.all():
        return logits
    missing = ~drawn.view(*drawn.shape, *[1] * (logits.ndim - 2))
    shared = missing.clone()
    shared[:, 0] = True
    background = logits.masked_fill(~shared, -math.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([background, logits.masked_fill(missing, -1e4)[:, 1:]], dim=1)  # exp(-1e4) is 0


def _loss_function(settings: TransferSettings, class_maps: Sequence[Tensor], classes: int) -> nn.Module:
    """Dice of the organs + weighted cross-entropy; `class_maps` of the labelled cases say how frequent classes are."""
    from monai.losses import DiceCELoss

    loss = DiceCELoss(
        softmax=True, to_onehot_y=True, include_background=False, batch=True, lambda_ce=settings.cross_entropy
    )
    if settings.class_balance > 0:  # not DiceCELoss(weight=...): that one weighs the Dice losses as well
        loss.cross_entropy.weight = _class_weights(class_maps, classes, settings.class_balance)
    return loss


def _class_weights(class_maps: Sequence[Tensor], classes: int, power: float) -> Tensor:
    """Weights (K,) proportional to share ** -power, 1 on average; a class that is nowhere has 1 and no say."""
    counts = sum(torch.bincount(one.flatten().long(), minlength=classes) for one in class_maps).double()
    there = counts > 0
    weights = torch.ones_like(counts)
    weights[there] = (counts[there] / counts.sum()) ** -power
    weights[there] /= weights[there].mean()
    return weights.float()


def _optimiser(network: Segmenter, settings: TransferSettings):
    if settings.freeze_encoder:
        network.encoder.requires_grad_(False)
    inside = {id(p) for p in network.encoder.parameters()}
    encoder = [p for p in network.parameters() if id(p) in inside and p.requires_grad]
    if not encoder and not settings.freeze_encoder:
        raise ValueError(
            "all parameters of the encoder are frozen (requires_grad=False), as those of a moving average are. Call "
            "encoder.requires_grad_(True) to fine-tune it, or say TransferSettings(freeze_encoder=True)."
        )
    rate = settings.learning_rate
    encoder_rate = rate if settings.encoder_learning_rate is None else settings.encoder_learning_rate
    groups = [{"params": [p for p in network.parameters() if id(p) not in inside], "lr": rate}]
    groups += [{"params": encoder, "lr": encoder_rate}] if encoder else []
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    highest = [group["lr"] for group in groups]
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, highest, total_steps=settings.steps)


# ------------------------------------------------------------ crops


def _batch(cases, volumes: "_Volumes", settings, key, step: int, device) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, C, *crop), class maps (B, 1, *crop) and which classes were drawn (B, K) of one training step."""
    generator = torch.Generator().manual_seed(_number("crops", *key, step))
    first = (step - 1) * settings.batch_size
    turns = [_turn(i, len(cases), key) for i in range(first, first + settings.batch_size)]
    images, targets = zip(*(_view(cases[i], volumes, settings, generator) for i in turns), strict=True)
    image = jitter_intensity(
        torch.cat(images),
        brightness=settings.brightness,
        contrast=settings.contrast,
        noise_std=settings.noise_std,
        generator=generator,
    )
    drawn = torch.stack([volumes.drawn(cases[i]) for i in turns])  # (B, K)
    return image.to(device), torch.cat(targets).to(device), drawn.to(device)


def _turn(position: int, cases: int, key: tuple) -> int:
    """Which case comes at a position of the run: a new shuffled order each time all have had their turn."""
    generator = torch.Generator().manual_seed(_number("order", *key, position // cases))
    return int(torch.randperm(cases, generator=generator)[position % cases])


def _view(case: Case, volumes: "_Volumes", settings, generator) -> tuple[Tensor, Tensor]:
    """A random crop of one case under a random affine map: image (1, C, *crop), class map (1, 1, *crop)."""
    near_organ, pick_organ, pick_voxel = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    organs = volumes.voxels(case)
    around = None
    if near_organ < settings.foreground and organs:
        voxels = organs[int(pick_organ * len(organs))]
        place = voxels[int(pick_voxel * len(voxels))].long()
        around = [int(i) for i in torch.unravel_index(place, volumes.classes(case).shape[1:])]
    pair = [volumes.image(case), volumes.classes(case)]
    image, classes = random_crop(pair, settings.crop, generator, around=around)
    theta = random_affine(
        1,
        settings.crop,
        scale=settings.scale,
        rotation_degrees=settings.rotation_degrees,
        translation=0.0,  # the place of the crop is random already
        flip_axes=settings.flip_axes,
        spacing=volumes.spacing(case),
        generator=generator,
    )
    darkest = image.min()  # what comes in from outside is dark, and background
    seen = apply_affine((image - darkest)[None], theta, mode="bilinear") + darkest
    return seen, apply_affine(classes[None], theta)


class _Volumes:
    """Images and class maps of cases, read when first asked for and then kept."""

    def __init__(self, label_names: Mapping[int, str], settings: TransferSettings):
        self.numbers = tuple(_classes(label_names, settings.organs))  # class 0, 1, ... -> number in the label map
        self.names = {c: label_names.get(number, "background") for c, number in enumerate(self.numbers)}
        self._known, self._undrawn = {0, *label_names}, settings.undrawn
        self._kept: dict[tuple, object] = {}

    def _once(self, what: str, case: Case, make: Callable):
        if (what, case.name) not in self._kept:
            self._kept[what, case.name] = make()
        return self._kept[what, case.name]

    def image(self, case: Case) -> Tensor:
        """Grey values (C, X, Y, Z) float32."""
        return self._read_image(case)[0]

    def spacing(self, case: Case) -> tuple[float, float, float]:
        return self._read_image(case)[1]

    def _read_image(self, case: Case):
        def read():
            volume = case.normalised()
            return volume.as_subclass(Tensor), spacing_mm(volume.affine)

        return self._once("image", case, read)

    def classes(self, case: Case) -> Tensor:
        """Class of each voxel (1, X, Y, Z), int16."""

        def read():
            label = case.label().as_subclass(Tensor)
            strangers = sorted(set(label.unique().tolist()) - self._known)
            if strangers:
                raise ValueError(
                    f"the label map of {case.name} holds {strangers[0]}, which label_names {sorted(self._known)} does "
                    'not name; complete "labels" in dataset.json.'
                )
            classes = torch.zeros(label.shape, dtype=torch.int16)
            for c, number in enumerate(self.numbers):
                classes[label == number] = c
            return classes

        return self._once("classes", case, read)

    def voxels(self, case: Case) -> list[Tensor]:
        """Voxels of each organ that is there, counted through the volume: (N,) int32."""

        def find():
            classes = self.classes(case).flatten()
            places = ((classes == c).nonzero()[:, 0].int() for c in self.names if c)
            return [p for p in places if len(p)]

        return self._once("voxels", case, find)

    def drawn(self, case: Case) -> Tensor:
        """Which classes (K,) the label map of a case knows of; see `TransferSettings.undrawn`."""

        def look():
            present = torch.bincount(self.classes(case).flatten().long(), minlength=len(self.numbers)) > 0
            present[0] = True
            return present if self._undrawn == "unknown" else torch.ones_like(present)

        return self._once("drawn", case, look)


def _classes(label_names: Mapping[int, str], organs: Sequence[str] | None) -> Iterator[int]:
    """Numbers of the label map in the order of the network's classes: background, then organs by number."""
    named = {number: name for number, name in sorted(label_names.items()) if number != 0}
    if not named:
        raise ValueError(f'no organ has a name in label_names {dict(label_names)}; write "labels" into dataset.json.')
    unknown = sorted(set(organs or ()) - set(named.values()))
    if unknown:
        raise ValueError(f"no organ is called {unknown[0]!r}; there are {', '.join(named.values())}.")
    yield 0
    yield from (number for number, name in named.items() if organs is None or name in organs)


# ------------------------------------------------------------ prediction and scores


@torch.no_grad()
def _predicted(network: nn.Module, image: Tensor, settings: TransferSettings, device: torch.device) -> Tensor:
    """Class of each voxel (1, X, Y, Z), int16, on the CPU; volumes smaller than a window are padded (minimum)."""
    from monai.inferers import sliding_window_inference

    network.eval()
    image = torch.as_tensor(image).as_subclass(Tensor).to(device)
    logits = sliding_window_inference(
        image[None],
        settings.crop,
        sw_batch_size=4,
        predictor=network,
        overlap=settings.overlap,
        mode="gaussian",
        cval=float(image.min()),
    )
    return logits.argmax(1).to(torch.int16).cpu()


def _validation_dice(network, cases, volumes: _Volumes, settings, device) -> float:
    """Mean Dice as `summarise_scores` has it, without surface distances."""
    dice = [_dice(_predicted(network, volumes.image(c), settings, device), volumes.classes(c), volumes) for c in cases]
    organs = torch.stack(dice).nanmean(0)
    if organs.isnan().all():
        raise ValueError(f"none of the {len(cases)} validation cases shows an organ to score; look at their labels.")
    return float(organs.nanmean())


def _dice(prediction: Tensor, classes: Tensor, volumes: _Volumes) -> Tensor:
    """Dice of each organ (K - 1,) float64; NaN where the label map has none of it."""
    k = len(volumes.numbers)
    table = torch.bincount((classes.long() * k + prediction.long()).flatten(), minlength=k * k).view(k, k).double()
    true, predicted = table.sum(1), table.sum(0)
    return torch.where(true > 0, 2 * table.diagonal() / (true + predicted), math.nan)[1:]


def _test_scores(network, cases, volumes: _Volumes, settings, device) -> dict:
    scores = {}
    for case in cases:
        prediction = _predicted(network, volumes.image(case), settings, device)
        scores[case.name] = segmentation_scores(prediction, volumes.classes(case), volumes.names, volumes.spacing(case))
    return summarise_scores(scores)


# ------------------------------------------------------------ chance


def _number(*key) -> int:
    """A seed that depends on all of `key` and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7])


@contextmanager
def _own_chance(device: torch.device):
    """PyTorch's global random state is the caller's again afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _seed_all(number: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(number)  # torch.manual_seed would reseed GPUs that nobody gave back
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)


def _encoder_for(encoder, seed: int) -> nn.Module:
    """The encoder itself, or a fresh one from a function of the seed."""
    if isinstance(encoder, nn.Module):
        return encoder
    if not callable(encoder):
        raise ValueError(f"encoder is a module, or a function seed -> module; got {type(encoder).__name__}.")
    cpu = torch.device("cpu")
    with _own_chance(cpu):
        _seed_all(_number("encoder", seed), cpu)
        return encoder(seed)


# ------------------------------------------------------------ the plan of runs, and its store


class _Run(NamedTuple):
    labelled: int | str
    draw: int
    seed: int
    cases: list[Case]


def _plan(cohort: Cohort, labelled: Sequence[int | str], draws: int, seeds: Sequence[int]) -> list[_Run]:
    for part in ("validation", "test"):
        if not getattr(cohort, part):
            raise ValueError(
                f"cohort {cohort.name} has no {part} cases: without them the step cannot be chosen and nothing "
                "reported. Give it a split (splits.json), or more cases."
            )
    if draws < 1 or not labelled or not seeds:
        raise ValueError(f"draws, labelled and seeds ask for at least one run; got {draws}, {labelled} and {seeds}.")
    for k in labelled:
        if not (k == "all" or (isinstance(k, int) and k >= 1)):
            raise ValueError(f'labelled holds numbers of cases from 1, or "all"; got {k!r}.')
    for name, asked in (("labelled", labelled), ("seeds", seeds)):
        if len(set(asked)) < len(asked):
            raise ValueError(f"{name} names a value twice, and the same run twice is one run: {tuple(asked)}.")
    choices = [(k, d) for k in labelled for d in range(1 if k == "all" else draws)]
    cases = {choice: cohort.train if choice[0] == "all" else cohort.few_shot(*choice) for choice in choices}
    return [_Run(k, d, seed, cases[k, d]) for k, d in choices for seed in seeds]


class _Store:
    """Finished runs in a JSON-lines file, each line with the fingerprint of how it was made."""

    def __init__(self, path: Path, start: str, protocol: dict):
        self.path, self.protocol = path, protocol
        self.lines = {}
        for line in _whole_lines(path):
            _check_protocol(line["fingerprint"], protocol, path)
            if line["record"]["start"] == start:
                self.lines[tuple(line["record"][name] for name in ("labelled", "draw", "seed"))] = line

    def find(self, run: _Run, encoder: nn.Module) -> dict | None:
        line = self.lines.get((run.labelled, run.draw, run.seed))
        if line is None:
            return None
        if line["fingerprint"]["weights"] != _weights_digest(encoder):
            raise ValueError(
                f"{self.path} holds runs from {line['record']['start']!r} with other weights (seed {run.seed}). Give "
                "this encoder another start or another file, or remove this one."
            )
        return line["record"]

    def add(self, record: dict, encoder: nn.Module) -> None:
        fingerprint = {**self.protocol, "weights": _weights_digest(encoder)}
        line = json.dumps({"fingerprint": fingerprint, "record": record}, allow_nan=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())


def _whole_lines(path: Path) -> list[dict]:
    """Lines of the store; what an interruption left half-written at the end is cut off."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    lines = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is not a stored run ({error}); remove the line.") from error
    return lines


def _check_protocol(stored: dict, own: dict, path: Path) -> None:
    there, here = stored["settings"], own["settings"]
    if there != here:
        differ = [f"{n} {there.get(n)}, now {here.get(n)}" for n in {**there, **here} if there.get(n) != here.get(n)]
        found = f"other settings ({'; '.join(differ)})"
    elif stored["cohort"] != own["cohort"]:
        found = f"another cohort, or other cases of it ({stored['cohort']}, now {own['cohort']})"
    else:
        return
    raise ValueError(f"{path} holds runs of {found}; they cannot be compared. Give another file, or remove this one.")


def _protocol(cohort: Cohort, settings: TransferSettings) -> dict:
    """Settings, and a hash of the split and of one case's voxels: options of generated cohorts change those."""
    case, split = cohort.validation[0], cohort.split
    names = [split.train, split.validation, split.test, split.few_shot, sorted(cohort.label_names.items())]
    digest = hashlib.sha256(json.dumps(names).encode())
    for volume in (case.image(), case.label()):
        digest.update(str((tuple(volume.shape), volume.dtype)).encode())
        digest.update(_bytes(volume))
    return {
        "settings": json.loads(json.dumps(asdict(settings))),
        "cohort": f"{cohort.name} {digest.hexdigest()[:12]}",
    }


def _weights_digest(encoder: nn.Module) -> str:
    digest = hashlib.sha256(type(encoder).__name__.encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:12]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().as_subclass(Tensor).cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


# ------------------------------------------------------------ checks


def _check_parts(labelled: Sequence[Case], validation: Sequence[Case], test: Sequence[Case]) -> None:
    parts = {"labelled": labelled, "validation": validation, "test": test}
    part_of: dict[str, str] = {}
    for part, cases in parts.items():
        if not cases:
            raise ValueError(f"there are no {part} cases; training, choosing and reporting need some each.")
        for case in cases:
            other = part_of.setdefault(case.subject, part)
            if other != part:
                raise ValueError(
                    f"subject {case.subject} is among the {other} and the {part} cases; keep it in one part."
                )


def _check_encoder(encoder: nn.Module, settings: TransferSettings, image: Tensor) -> None:
    face = ("feature_maps", "feature_channels", "feature_strides", "spatial_dims", "in_channels")
    missing = [name for name in face if not hasattr(encoder, name)]
    if missing:
        raise ValueError(
            f"{type(encoder).__name__} has no {', '.join(missing)}; see the encoder face in medssl_nb.networks."
        )
    dims = image.ndim - 1
    if encoder.spatial_dims != dims or len(settings.crop) != dims or encoder.in_channels != len(image):
        raise ValueError(
            f"volumes {tuple(image.shape)}, crop {settings.crop} and an encoder for {encoder.in_channels} channels and "
            f"{encoder.spatial_dims} axes do not fit together."
        )
    multiple = size_multiple(encoder)
    if any(side % m for side, m in zip(settings.crop, multiple, strict=True)):
        raise ValueError(
            f"crop {settings.crop}: the sides must be multiples of {multiple}, the encoder's largest strides."
        )
