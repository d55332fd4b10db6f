"""Few-label transfer: true pairs, choice on validation, one look at the test cases, and a store that survives."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from medssl_nb.data.cohorts import Case, Cohort
from medssl_nb.data.splits import Split
from medssl_nb.evaluation import transfer
from medssl_nb.evaluation.segmentation import segmentation_scores, summarise_scores
from medssl_nb.evaluation.transfer import TransferSettings, few_label_transfer, finetune, merge_undrawn, segment

NAMES = {0: "background", 2: "bright", 5: "dark"}
QUICK = TransferSettings(steps=2, crop=(8, 8, 8), evaluate_at=(1, 2))
ONE = {"labelled": (1,), "draws": 1, "seeds": (0,)}


class TinyEncoder(nn.Module):
    """Two maps, strides 1 and 2; `seen` collects the volumes of training steps, over all copies."""

    spatial_dims, in_channels = 3, 1
    feature_channels, feature_strides = (4, 6), ((1, 1, 1), (2, 2, 2))

    def __init__(self, seed: int = 0, seen: list | None = None):
        super().__init__()
        self.fine, self.coarse = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 6, 2, stride=2)
        self.norm = nn.BatchNorm3d(4)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
        self.seen = seen if seen is not None else []

    def __deepcopy__(self, memo):
        other = TinyEncoder(seen=self.seen)
        other.load_state_dict(self.state_dict())
        for mine, theirs in zip(self.parameters(), other.parameters(), strict=True):
            theirs.requires_grad_(mine.requires_grad)
        return other

    def feature_maps(self, volume):
        if torch.is_grad_enabled():
            self.seen.append(volume.detach().clone())
        fine = torch.tanh(self.norm(self.fine(volume)))
        return [fine, self.coarse(fine)]


class Scan:
    """Reads one volume of an invented patient; `events` notes what was read when."""

    def __init__(self, name: str, what: str, events: list, organs=(2, 5), shape=(12, 12, 12)):
        self.name, self.what, self.events, self.organs, self.shape = name, what, events, organs, shape

    def __call__(self):
        from monai.data import MetaTensor

        self.events.append((self.what, self.name))
        generator = torch.Generator().manual_seed(sum(map(ord, self.name)))
        i, j = (int(n) for n in torch.randint(0, 3, (2,), generator=generator))
        label = torch.zeros(1, *self.shape, dtype=torch.uint8)
        image = 0.1 * torch.randn(1, *self.shape, generator=generator)
        for organ, grey, low in ((2, 2.0, 1 + i), (5, -2.0, 6 + j)):
            box = (0, slice(low, low + 4), slice(3, 9), slice(2, 10))
            image[box] += grey
            if organ in self.organs:
                label[box] = organ
        return MetaTensor(image if self.what == "image" else label, affine=torch.diag(torch.tensor([2.0, 2, 1, 1])))


def sealed():
    raise PermissionError("this label is sealed")


def case(name: str, events: list, **scan) -> Case:
    volumes = {what: Scan(name, what, events, **scan) for what in ("image", "label")}
    return Case(name, name, "MR", volumes, NAMES)


def cohort(train: int = 3, validation: int = 1, test: int = 2, events: list | None = None, **scan) -> Cohort:
    counts = {"train": train, "validation": validation, "test": test}
    parts = {part: tuple(f"{part}_{i}" for i in range(n)) for part, n in counts.items()}
    events = [] if events is None else events
    cases = {name: case(name, events, **scan) for names in parts.values() for name in names}
    orders = (parts["train"], parts["train"][::-1])
    return Cohort("boxes", "MR", cases, Split(**parts, few_shot=orders), NAMES)


def without_time(record: dict) -> dict:
    return {key: value for key, value in record.items() if key != "seconds"}


def run(encoder, boxes: Cohort, settings=QUICK, **options) -> dict:
    return finetune(encoder, boxes.few_shot(1), boxes.validation, boxes.test, NAMES, settings, **options)


# ------------------------------------------------------------ pairs


def test_two_encoders_see_the_same_crops_and_start_from_the_same_head(monkeypatch):
    heads = []

    class Watched(transfer.Segmenter):
        def __init__(self, *args):
            super().__init__(*args)
            heads.append({name: w.clone() for name, w in self.state_dict().items() if not name.startswith("encoder.")})

    monkeypatch.setattr(transfer, "Segmenter", Watched)
    boxes, seen = cohort(), {}

    def watch(name, encoder_seed, **options):
        encoder = TinyEncoder(encoder_seed, seen=seen.setdefault(name, []))
        few_label_transfer(encoder, boxes, **{**ONE, **options}, settings=QUICK)
        return torch.stack(seen[name])

    first = watch("random", 0)
    assert len(first) == QUICK.steps
    assert torch.equal(watch("pretrained", 1, start="pretrained"), first)
    for name in heads[0]:
        assert torch.equal(heads[0][name], heads[1][name])
    assert not torch.equal(watch("other seed", 0, seeds=(1,)), first)
    assert not torch.equal(heads[2]["head.conv.weight"], heads[0]["head.conv.weight"])
    assert not torch.equal(watch("other draw", 0, draws=2)[QUICK.steps :], first)
    assert not torch.equal(first[0], first[1])


def test_global_chance_is_neither_used_nor_changed(monkeypatch):
    monkeypatch.setattr(transfer, "_test_scores", lambda network, *args: _checksum(network))
    boxes, sums = cohort(), []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        records = few_label_transfer(lambda seed: TinyEncoderWithDropout(), boxes, **ONE, settings=QUICK)
        assert torch.equal(torch.get_rng_state(), before)
        sums.append(records[0]["test"])
    assert sums[0] == sums[1]


def _checksum(network: nn.Module) -> float:
    return sum(float(p.detach().double().abs().sum()) for p in network.parameters())


class TinyEncoderWithDropout(TinyEncoder):
    """Draws its weights, and what it drops, from PyTorch's global generator."""

    def __init__(self):
        super().__init__()
        nn.init.normal_(self.fine.weight)

    def __deepcopy__(self, memo):
        other = TinyEncoderWithDropout()
        other.load_state_dict(self.state_dict())
        return other

    def feature_maps(self, volume):
        return [nn.functional.dropout(m, 0.3, self.training) for m in super().feature_maps(volume)]


@pytest.mark.parametrize("extra", [0, 7])
def test_chance_inside_a_network_follows_from_the_step(extra):
    drawn = []

    class Gambler(TinyEncoder):
        def feature_maps(self, volume):
            drawn.append(torch.rand(()).item())
            torch.rand(extra)  # another network might draw more
            return super().feature_maps(volume)

        def __deepcopy__(self, memo):
            return self

    settings = replace(QUICK, evaluate_at=(2,))
    transfer.train_segmenter(Gambler(), cohort().few_shot(1), cohort().validation, NAMES, settings)
    assert drawn[1] == torch.rand((), generator=torch.Generator().manual_seed(transfer._number("step", 0, 0, 1, 2)))


def test_a_function_makes_fresh_weights_for_each_seed():
    asked = []

    def make(seed):
        asked.append(seed)
        return TinyEncoder(seed)

    records = few_label_transfer(make, cohort(), labelled=(1,), draws=1, seeds=(3, 4), settings=QUICK)
    assert asked == [3, 4]
    assert without_time(records[0])["curve"] != without_time(records[1])["curve"]
    assert records[0] | {"seconds": 0} == run(TinyEncoder(3), cohort(), seed=3) | {"seconds": 0}


def test_the_encoder_itself_is_never_changed():
    encoder = TinyEncoder().eval()
    before = {name: t.clone() for name, t in encoder.state_dict().items()}
    run(encoder, cohort(), replace(QUICK, learning_rate=0.1))
    assert all(torch.equal(t, before[name]) for name, t in encoder.state_dict().items())
    assert not encoder.training and all(p.grad is None and p.requires_grad for p in encoder.parameters())


def test_labelled_cases_take_turns():
    turns = [transfer._turn(i, 3, (0, 0, 3)) for i in range(12)]
    assert all(sorted(turns[i : i + 3]) == [0, 1, 2] for i in range(0, 12, 3))
    assert len({tuple(turns[i : i + 3]) for i in range(0, 12, 3)}) > 1


# ------------------------------------------------------------ validation chooses, test is looked at once


def test_test_cases_are_read_after_all_training_and_once():
    events: list = []
    encoder = TinyEncoder(seen=(seen := _Noting(events)))
    run(encoder, cohort(events=events))
    assert len(seen) == QUICK.steps
    trained = max(i for i, event in enumerate(events) if event == "step")
    first_test = min(i for i, (_, name) in enumerate(e for e in events if e != "step") if name.startswith("test"))
    assert first_test + QUICK.steps > trained
    for name in ("test_0", "test_1", "train_0", "validation_0"):
        assert events.count(("image", name)) == 1 and events.count(("label", name)) == 1


class _Noting(list):
    """A list that also notes each step among the other events."""

    def __init__(self, events: list):
        super().__init__()
        self.events = events

    def append(self, volume):
        super().append(volume)
        self.events.append("step")


def test_sealed_test_labels_stop_only_the_report():
    boxes = cohort()
    for name in boxes.split.test:
        boxes.cases[name] = replace(boxes[name], volumes={**boxes[name].volumes, "label": sealed})
    seen: list = []
    with pytest.raises(PermissionError, match="this label is sealed"):
        few_label_transfer(TinyEncoder(seen=seen), boxes, **ONE, settings=QUICK)
    assert len(seen) == QUICK.steps
    trained = transfer.train_segmenter(TinyEncoder(), boxes.few_shot(1), boxes.validation, NAMES, QUICK)
    assert [step for step, _ in trained.curve] == [1, 2]


@pytest.mark.parametrize(("dice", "chosen"), [([0.2, 0.9, 0.4], 2), ([0.5, 0.5, 0.5], 1), ([0.0, 0.1, 0.2], 3)])
def test_the_best_validation_step_is_kept(monkeypatch, dice, chosen):
    states = []

    def scripted(network, *args):
        states.append({name: t.clone() for name, t in network.state_dict().items()})
        return dice[len(states) - 1]

    monkeypatch.setattr(transfer, "_validation_dice", scripted)
    boxes, settings = cohort(), replace(QUICK, steps=3, evaluate_at=(1, 2, 3))
    trained = transfer.train_segmenter(TinyEncoder(), boxes.few_shot(1), boxes.validation, NAMES, settings)
    assert trained.chosen_step == chosen
    assert trained.curve == [[step, d] for step, d in enumerate(dice, 1)]
    assert all(torch.equal(t, states[chosen - 1][name]) for name, t in trained.network.state_dict().items())
    assert not torch.equal(states[0]["head.conv.weight"], states[2]["head.conv.weight"])


def test_validation_dice_is_the_mean_dice_of_the_scores():
    boxes = cohort(validation=1)
    half_drawn = case("half_drawn", [], organs=(5,))
    cases, settings = [*boxes.validation, half_drawn], QUICK
    volumes = transfer._Volumes(NAMES, settings)
    network = transfer.Segmenter(TinyEncoder(), 3)
    scores = {
        c.name: segmentation_scores(segment(network, c.normalised(), NAMES, settings), c.label(), NAMES, (2, 2, 1))
        for c in cases
    }
    wanted = summarise_scores(scores)["mean_dice"]
    assert transfer._validation_dice(network, cases, volumes, settings, torch.device("cpu")) == pytest.approx(wanted)
    assert 0 < wanted < 1 and scores["half_drawn"]["dice"]["bright"] is None
    with pytest.raises(ValueError, match="none of the 1 validation cases shows an organ"):
        nothing = [case("nothing", [], organs=())]
        transfer._validation_dice(network, nothing, volumes, settings, torch.device("cpu"))


def test_it_learns_and_the_record_is_plain_and_complete():
    settings = TransferSettings(steps=40, crop=(8, 8, 8), evaluate_at=(20, 40), learning_rate=0.02)
    record = run(TinyEncoder(), cohort(), settings, start="nothing", seed=2)
    assert record["test"]["mean_dice"] > 0.8
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert {k: record[k] for k in ("start", "labelled", "draw", "seed", "steps")} == {
        "start": "nothing",
        "labelled": 1,
        "draw": 0,
        "seed": 2,
        "steps": 40,
    }
    assert [step for step, _ in record["curve"]] == [20, 40]
    assert record["chosen_step"] == max(record["curve"], key=lambda point: point[1])[0]
    assert set(record["test"]["cases"]) == {"test_0", "test_1"}
    assert set(record["test"]["dice"]) == set(record["test"]["hd95_mm"]) == {"bright", "dark"}


# ------------------------------------------------------------ training


def test_a_frozen_encoder_stays_and_the_head_learns():
    boxes, encoder = cohort(), TinyEncoder()
    settings = replace(QUICK, freeze_encoder=True, learning_rate=0.1)
    network = transfer.train_segmenter(encoder, boxes.few_shot(1), boxes.validation, NAMES, settings).network
    for name, tensor in encoder.state_dict().items():  # batch norm's running statistics among them
        assert torch.equal(network.encoder.state_dict()[name], tensor)
    thawed = transfer.train_segmenter(encoder, boxes.few_shot(1), boxes.validation, NAMES, QUICK).network
    assert not torch.equal(thawed.encoder.fine.weight, encoder.fine.weight)
    assert not torch.equal(thawed.encoder.norm.running_mean, encoder.norm.running_mean)
    assert not torch.equal(thawed.head.conv.weight, network.head.conv.weight)


def test_the_encoder_may_learn_at_a_rate_of_its_own():
    for rate, wanted in ((None, [2e-3, 2e-3]), (1e-4, [2e-3, 1e-4])):
        settings = replace(QUICK, learning_rate=2e-3, encoder_learning_rate=rate)
        settings = replace(settings, weight_decay=0.3)
        optimiser, _ = transfer._optimiser(transfer.Segmenter(TinyEncoder(), 3), settings)
        assert {group["weight_decay"] for group in optimiser.param_groups} == {0.3}
        assert [group["max_lr"] for group in optimiser.param_groups] == wanted
        assert [len(group["params"]) for group in optimiser.param_groups] == [2, 6]


@pytest.mark.parametrize("clip_norm", [None, 1e-2])
def test_long_gradients_are_shortened_all_together(monkeypatch, clip_norm):
    steps = []

    class Watched(torch.optim.AdamW):
        def step(self, *args, **options):
            weights = [p for group in self.param_groups for p in group["params"]]
            steps.append([p.grad.flatten().clone() for p in weights if p.grad is not None])
            return super().step(*args, **options)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    boxes, settings = cohort(), replace(QUICK, clip_norm=clip_norm)
    transfer.train_segmenter(TinyEncoder(), boxes.few_shot(1), boxes.validation, NAMES, settings)
    lengths = [torch.cat(grads).norm().item() for grads in steps]
    assert len(lengths) == QUICK.steps
    if clip_norm is None:
        assert min(lengths) > 0.05
    else:
        assert lengths == pytest.approx([clip_norm] * QUICK.steps, rel=1e-3)


def test_rare_classes_weigh_more():
    maps = [torch.tensor([0] * 40 + [1] * 10), torch.tensor([0] * 35 + [1] * 10 + [2] * 5).view(1, 5, 10)]
    for power, wanted in ((0.5, [0.440554, 0.853128, 1.706256]), (1.0, [12 / 79, 45 / 79, 180 / 79])):
        assert transfer._class_weights(maps, 3, power).tolist() == pytest.approx(wanted, abs=3e-4)
    missing = transfer._class_weights(maps[:1], 3, 0.5)  # shares 0.8 and 0.2: weights 1 to 2
    assert missing.tolist() == pytest.approx([2 / 3, 4 / 3, 1])


def test_class_balance_weighs_the_cross_entropy_and_leaves_dice_alone():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, 4, generator=generator)
    target = torch.randint(0, 3, (2, 1, 4, 4, 4), generator=generator)
    weight = transfer._class_weights([target[0]], 3, 2.0)
    found = {}
    for power in (0.0, 2.0):
        loss = transfer._loss_function(replace(QUICK, class_balance=power, cross_entropy=0.7), [target[0]], 3)
        found[power] = loss(logits, target)
    plain, weighted = (nn.functional.cross_entropy(logits, target[:, 0], w) for w in (None, weight))
    torch.testing.assert_close(found[2.0] - found[0.0], 0.7 * (weighted - plain))
    probability, truth = logits.softmax(1)[:, 1:], torch.stack([target[:, 0] == c for c in (1, 2)], 1).float()
    overlap, size = (probability * truth).sum((0, 2, 3, 4)), (probability + truth).sum((0, 2, 3, 4))
    torch.testing.assert_close(found[0.0] - 0.7 * plain, (1 - 2 * overlap / size).mean())


def test_class_balance_reaches_the_training():
    boxes, heads = cohort(), []
    for power in (0.0, 1.0):
        settings = replace(QUICK, class_balance=power)
        trained = transfer.train_segmenter(TinyEncoder(), boxes.few_shot(1), boxes.validation, NAMES, settings)
        heads.append(trained.network.head.conv.weight)
    assert not torch.equal(*heads)


def test_a_frozen_moving_average_is_not_fine_tuned_by_mistake():
    teacher = TinyEncoder().requires_grad_(False)
    with pytest.raises(ValueError, match=r"requires_grad=False.*freeze_encoder=True"):
        run(teacher, cohort())
    assert run(teacher, cohort(), replace(QUICK, freeze_encoder=True))["chosen_step"] in (1, 2)


def test_undrawn_organs_lend_their_probability_to_the_background():
    logits = torch.randn(2, 3, 2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits.requires_grad_()
    drawn = torch.tensor([[True, True, False], [True, True, True]])
    before, after = logits.softmax(1), merge_undrawn(logits, drawn).softmax(1)
    torch.testing.assert_close(after[0, 0], before[0, 0] + before[0, 2])
    torch.testing.assert_close(after[0, 1], before[0, 1])
    assert (after[0, 2] == 0).all()
    torch.testing.assert_close(after[1], before[1])
    # A background voxel of the first sample asks only that organ 1 gets less: background and organ 2 gain alike.
    (-after[0, 0].log().sum()).backward()
    share = logits.grad[0, [0, 2]] / logits.detach().softmax(1)[0, [0, 2]]
    torch.testing.assert_close(share[0], share[1])
    assert (logits.grad[0, 1] > 0).all() and (logits.grad[1] == 0).all()
    assert merge_undrawn(logits, drawn[1:].expand(2, 3)) is logits


def test_an_organ_without_a_voxel_counts_as_undrawn_unless_told_otherwise():
    half_drawn = case("half_drawn", [], organs=(5,))
    for undrawn, wanted in (("unknown", [True, False, True]), ("background", [True] * 3)):
        volumes = transfer._Volumes(NAMES, replace(QUICK, undrawn=undrawn))
        assert volumes.drawn(half_drawn).tolist() == wanted


def test_what_undrawn_means_changes_the_training():
    boxes, half_drawn, heads = cohort(), case("half_drawn", [], organs=(5,)), []
    for undrawn in ("unknown", "background"):
        settings = replace(QUICK, undrawn=undrawn)
        trained = transfer.train_segmenter(TinyEncoder(), [half_drawn], boxes.validation, NAMES, settings)
        heads.append(trained.network.head.conv.weight)
    assert not torch.equal(*heads)


def test_image_and_classes_are_cut_and_turned_alike():
    settings = TransferSettings(crop=(8, 8, 8), rotation_degrees=40.0, scale=(1.0, 1.5), foreground=1.0)
    volumes, boxes = transfer._Volumes(NAMES, settings), cohort()
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        image, classes = transfer._view(boxes.train[0], volumes, settings, generator)
        assert image.shape == classes.shape == (1, 1, 8, 8, 8) and classes.dtype == torch.int16
        middle = (image[classes == 1].mean() + image[classes == 0].mean()) / 2
        assert ((image > middle) == (classes == 1)).float().mean() > 0.88


def test_what_comes_in_from_outside_is_dark_background():
    settings = replace(QUICK, crop=(12, 12, 12), scale=(0.5, 0.5), rotation_degrees=0.0)
    volumes, patient = transfer._Volumes(NAMES, settings), cohort().train[0]
    image, classes = transfer._view(patient, volumes, settings, torch.Generator())
    torch.testing.assert_close(image[0, 0, 0, 0, 0], volumes.image(patient).min())
    assert image[0, 0, 0, 0, 0] < -1 and (classes[0, 0, 0] == 0).all()


def test_settings_reach_the_views(monkeypatch):
    asked = {}

    def watched(name, function):
        def call(*args, **options):
            asked[name] = options
            return function(*args, **options)

        return call

    for name in ("random_affine", "jitter_intensity"):
        monkeypatch.setattr(transfer, name, watched(name, getattr(transfer, name)))
    views = {"scale": (0.7, 1.1), "rotation_degrees": (5.0, 0.0, 1.0), "flip_axes": (1,)}
    grey = {"brightness": 0.11, "contrast": 0.12, "noise_std": 0.13}
    run(TinyEncoder(), cohort(), replace(QUICK, **views, **grey))
    assert {key: asked["random_affine"][key] for key in (*views, "spacing")} == {**views, "spacing": (2, 2, 1)}
    assert {key: asked["jitter_intensity"][key] for key in grey} == grey


def test_half_of_the_crops_look_for_an_organ():
    boxes = cohort(shape=(40, 12, 12))  # organs lie in the first third
    counts = {}
    for share in (0.0, 0.5, 1.0):
        settings = replace(QUICK, foreground=share, scale=(1, 1), rotation_degrees=0.0)
        volumes = transfer._Volumes(NAMES, settings)
        views = [
            transfer._view(boxes.train[0], volumes, settings, torch.Generator().manual_seed(i))[1] for i in range(60)
        ]
        counts[share] = sum(bool(v.any()) for v in views)
    assert counts[0.0] < 35 and counts[1.0] == 60 and counts[0.0] < counts[0.5] < 60


def test_a_volume_smaller_than_the_crop_is_padded_with_its_minimum():
    record = run(TinyEncoder(), cohort(), replace(QUICK, crop=(16, 8, 16)))
    assert record["test"]["mean_dice"] is not None
    network = Windows()
    prediction = transfer._predicted(network, 3 + torch.rand(1, 4, 8, 8), QUICK, torch.device("cpu"))
    assert prediction.shape == (1, 4, 8, 8) and prediction.dtype == torch.int16
    assert network.seen[0].shape[2:] == (8, 8, 8) and network.seen[0].min() >= 3


class Windows(nn.Module):
    """Collects the windows it is shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, windows):
        self.seen.append(windows)
        return torch.cat([windows, -windows], dim=1)


def test_windows_overlap_as_told():
    counts = []
    for overlap in (0.25, 0.5, 0.75):
        network = Windows()
        transfer._predicted(network, torch.rand(1, 8, 8, 24), replace(QUICK, overlap=overlap), torch.device("cpu"))
        counts.append(sum(map(len, network.seen)))
    assert counts == [4, 5, 9]


def test_a_loss_that_is_no_number_is_named():
    encoder = TinyEncoder()
    with torch.no_grad():
        encoder.fine.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="the loss is nan at step 1"):
        run(encoder, cohort())


# ------------------------------------------------------------ organs and label numbers


def test_segment_speaks_in_the_numbers_of_the_label_map():
    network = transfer.Segmenter(TinyEncoder(), 3)
    with torch.no_grad():
        network.head.conv.bias.copy_(torch.tensor([-100.0, -100, 100]))
    label = segment(network, torch.randn(1, 6, 9, 7), NAMES, QUICK)
    assert label.shape == (1, 6, 9, 7) and label.unique().tolist() == [5]


def test_chosen_organs_are_learnt_and_the_others_are_background():
    record = run(TinyEncoder(), cohort(), replace(QUICK, organs=("dark",)))
    assert list(record["test"]["dice"]) == ["dark"]
    volumes = transfer._Volumes(NAMES, replace(QUICK, organs=("dark",)))
    boxes = cohort()
    assert torch.equal(volumes.classes(boxes.train[0]).bool(), boxes.train[0].label().as_tensor() == 5)


def test_what_labels_must_say():
    boxes = cohort()
    cases = (boxes.few_shot(1), boxes.validation, boxes.test)
    with pytest.raises(ValueError, match=r"label map of train_0 holds 5, which label_names \[0, 2\] does not name"):
        finetune(TinyEncoder(), *cases, {2: "bright"}, QUICK)
    with pytest.raises(ValueError, match="no organ has a name"):
        finetune(TinyEncoder(), *cases, {0: "background"}, QUICK)
    with pytest.raises(ValueError, match="no organ is called 'spleen'; there are bright, dark"):
        finetune(TinyEncoder(), *cases, NAMES, replace(QUICK, organs=("spleen",)))


# ------------------------------------------------------------ the plan


def test_runs_are_planned_for_each_number_draw_and_seed_and_the_ceiling_once():
    told = []
    records = few_label_transfer(
        TinyEncoder(),
        cohort(),
        labelled=(1, "all"),
        draws=2,
        seeds=(0, 1),
        settings=replace(QUICK, steps=1, evaluate_at=(1,)),
        start="tiny",
        progress=lambda done, planned, record: told.append((done, planned, record)),
    )
    runs = [(r["labelled"], r["draw"], r["seed"]) for r in records]
    assert runs == [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1), ("all", 0, 0), ("all", 0, 1)]
    assert [(done, planned) for done, planned, _ in told] == [(i, 6) for i in range(1, 7)]
    assert [record for _, _, record in told] == records and {r["start"] for r in records} == {"tiny"}


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        ({"validation": 0}, {}, "cohort boxes has no validation cases"),
        ({"test": 0}, {}, "cohort boxes has no test cases"),
        ({}, {"labelled": (4,)}, "1 to 3 labelled cases, got k=4"),
        ({}, {"draws": 3}, "draws 0 to 1, got draw=2"),
        ({}, {"draws": 0}, "at least one run"),
        ({}, {"seeds": ()}, "at least one run"),
        ({}, {"seeds": (1, 1)}, "seeds names a value twice"),
        ({}, {"labelled": (0,)}, 'from 1, or "all"; got 0'),
        ({}, {"labelled": ("every",)}, "got 'every'"),
        ({}, {"encoder": None}, "a module, or a function seed -> module; got NoneType"),
    ],
)
def test_what_a_plan_refuses(parts, options, message):
    options = {"encoder": TinyEncoder(), "labelled": (1,), "draws": 1, "settings": QUICK, **options}
    with pytest.raises(ValueError, match=message):
        few_label_transfer(cohort=cohort(**parts), **options)


def test_a_subject_stands_in_one_part():
    boxes = cohort()
    with pytest.raises(ValueError, match="subject train_0 is among the labelled and the test cases"):
        finetune(TinyEncoder(), boxes.few_shot(1), boxes.validation, boxes.train, NAMES, QUICK)
    with pytest.raises(ValueError, match="no validation cases"):
        finetune(TinyEncoder(), boxes.few_shot(1), [], boxes.test, NAMES, QUICK)


def test_what_does_not_fit_an_encoder():
    with pytest.raises(ValueError, match="Linear has no feature_maps, feature_channels"):
        run(nn.Linear(1, 1), cohort())
    with pytest.raises(ValueError, match=r"crop \(8, 8, 7\): the sides must be multiples of \(2, 2, 2\)"):
        run(TinyEncoder(), cohort(), replace(QUICK, crop=(8, 8, 7)))
    with pytest.raises(ValueError, match=r"volumes \(1, 12, 12, 12\).* encoder for 2 channels and 3 axes"):
        few_label_transfer(lambda seed: _with_two_channels(), cohort(), **ONE, settings=QUICK)


def _with_two_channels() -> TinyEncoder:
    encoder = TinyEncoder()
    encoder.in_channels = 2
    return encoder


# ------------------------------------------------------------ settings


def test_settings_go_through_json_and_back():
    settings = TransferSettings(organs=("liver",), encoder_learning_rate=1e-4, rotation_degrees=(10.0, 5.0, 5.0))
    assert TransferSettings(**json.loads(json.dumps(asdict(settings)))) == settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "count from 1, got 0"),
        ({"crop": (32, 0, 32)}, r"got 60, 2 and \(32, 0, 32\)"),
        ({"evaluate_at": (15, 30)}, r"steps=60 .* got \(15, 30\)"),
        ({"evaluate_at": (30, 15, 60)}, "evaluate_at rises"),
        ({"evaluate_at": (0, 60)}, "from at least 1"),
        ({"evaluate_at": ()}, "evaluate_at rises"),
        ({"learning_rate": 0.0}, "learning rates lie above 0"),
        ({"encoder_learning_rate": 0.0}, "freeze_encoder=True"),
        ({"weight_decay": -1.0}, "weight_decay and cross_entropy count from 0"),
        ({"cross_entropy": -1.0}, "cross_entropy count from 0"),
        ({"clip_norm": 0.0}, "clip_norm is a length above 0, or None to clip nothing; got 0.0"),
        ({"clip_norm": float("nan")}, "clip_norm is a length above 0"),
        ({"class_balance": -0.5}, "class_balance is a power from 0 .* got -0.5"),
        ({"class_balance": 3.0}, "to 2, got 3.0"),
        ({"foreground": 1.5}, r"foreground lies in \[0, 1\]"),
        ({"overlap": 1.0}, r"overlap in \[0, 1\)"),
        ({"undrawn": "absent"}, "got 'absent'"),
        ({"scale": (1.2, 0.8)}, "scale needs two numbers"),
        ({"flip_axes": (3,)}, "flip_axes names"),
        ({"contrast": -0.1}, "contrast is a strength"),
    ],
)
def test_what_settings_refuse(change, message):
    with pytest.raises(ValueError, match=message):
        TransferSettings(**change)


# ------------------------------------------------------------ the store


def stored(tmp_path, encoder=None, boxes=None, settings=QUICK, **options):
    options = {"labelled": (1, 2), "draws": 1, "seeds": (0,), "store": tmp_path / "runs" / "transfer.jsonl", **options}
    return few_label_transfer(encoder or TinyEncoder(), boxes or cohort(), settings=settings, **options)


def test_an_interrupted_call_goes_on_where_it_was(tmp_path):
    def interrupt(done, planned, record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path, progress=interrupt)
    with (tmp_path / "runs" / "transfer.jsonl").open("a") as stream:
        stream.write('{"fingerprint": {"settings"')  # the line that was being written
    seen: list = []
    records = stored(tmp_path, TinyEncoder(seen=seen))
    assert len(seen) == QUICK.steps  # one of the two runs
    whole = stored(tmp_path / "elsewhere")
    assert [without_time(r) for r in records] == [without_time(r) for r in whole]
    assert stored(tmp_path, TinyEncoder(seen=seen)) == records and len(seen) == QUICK.steps
    lines = [json.loads(line) for line in (tmp_path / "runs" / "transfer.jsonl").read_text().splitlines()]
    assert [line["record"] for line in lines] == records


def test_other_starts_share_the_file(tmp_path):
    random = stored(tmp_path)
    pretrained = stored(tmp_path, TinyEncoder(1), start="pretrained")
    assert without_time(random[0]) != {**without_time(pretrained[0]), "start": "random"}
    assert stored(tmp_path) == random


def test_what_a_store_refuses(tmp_path):
    stored(tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(weight_decay 0.01, now 0.1\); they cannot be compared"):
        stored(tmp_path, settings=replace(QUICK, weight_decay=0.1), start="another")
    with pytest.raises(ValueError, match="another cohort, or other cases of it"):
        stored(tmp_path, boxes=cohort(test=1))
    with pytest.raises(ValueError, match="another cohort, or other cases of it"):
        stored(tmp_path, boxes=cohort(organs=(5,)))
    with pytest.raises(ValueError, match=r"from 'random' with other weights \(seed 0\)"):
        stored(tmp_path, TinyEncoder(1))
    file = tmp_path / "runs" / "transfer.jsonl"
    file.write_text("no JSON\n" + file.read_text())
    with pytest.raises(ValueError, match="line 1, is not a stored run"):
        stored(tmp_path)
