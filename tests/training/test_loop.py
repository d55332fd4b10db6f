"""The loop learns, follows its schedules, and says what it did."""

import copy
import io
import math
from types import SimpleNamespace

import pytest
import torch

from medssl_nb.methods.baselines import MaskedAutoencoding, ViewContrast
from medssl_nb.training import PretextTask, Profile, StepRecord, pretrain, progress_bar, read_history
from medssl_nb.training.loop import make_fabric, make_optimizer, schedules, set_schedule
from medssl_nb.training.progress import clock

FAST = {"crop": (16, 16, 16), "check_memory": False, "batch_size": 2}


def test_masked_autoencoding_beats_the_thoughtless_model(tiny_cohort, tiny_encoder):
    task = MaskedAutoencoding(tiny_encoder, patch_size=4, mask_ratio=0.5)
    records = list(pretrain(task, tiny_cohort, Profile(steps=60, learning_rate=1e-2, **FAST)))
    first, last = (sum(r.losses["total"] for r in part) / 10 for part in (records[:10], records[-10:]))
    assert last < 0.7 * first
    assert last < 0.8 * task.trivial_losses["total"]


def test_contrast_beats_collapse(tiny_cohort, tiny_encoder):
    task = ViewContrast(tiny_encoder)
    records = list(pretrain(task, tiny_cohort, Profile(steps=50, learning_rate=5e-3, **{**FAST, "batch_size": 4})))
    assert task.trivial_losses == {"total": pytest.approx(math.log(7))}
    assert sum(r.losses["total"] for r in records[-10:]) / 10 < 0.9 * math.log(7)
    assert task.health()["embedding spread"] > 0.05


def test_records_say_what_each_step_did(tiny_cohort, tiny_encoder, tmp_path):
    profile = Profile(steps=4, checkpoint_every=2, health_every=3, warmup=0.5, learning_rate=1e-3, **FAST)
    records = list(pretrain(MaskedAutoencoding(tiny_encoder, patch_size=8), tiny_cohort, profile, folder=tmp_path))
    assert [r.step for r in records] == [1, 2, 3, 4]
    assert {r.steps for r in records} == {4}
    assert [bool(r.health) for r in records] == [False, False, True, True]
    assert [r.checkpoint is not None for r in records] == [False, True, False, True]
    assert [r.learning_rate for r in records] == schedules(profile)[0]
    assert records[0].learning_rate == 5e-4 and max(r.learning_rate for r in records) == pytest.approx(1e-3)
    assert records[-1].seconds_left == 0 < records[0].seconds_left
    assert all(r.gradient_norm > 0 for r in records)
    assert [r["losses"] for r in read_history(tmp_path)] == [r.losses for r in records]


def test_stopping_early_costs_nothing(tiny_cohort, tiny_encoder):
    run = pretrain(MaskedAutoencoding(tiny_encoder, patch_size=8), tiny_cohort, Profile(steps=1000, **FAST))
    assert next(run).step == 1
    run.close()
    with pytest.raises(StopIteration):
        next(run)


@pytest.mark.parametrize("method", [MaskedAutoencoding, ViewContrast])
def test_slices_work_as_volumes_do(method, tiny_cohort):
    from medssl_nb.networks import FeatureUNet

    task = method(FeatureUNet(spatial_dims=2, channels=(4, 8), norm="instance"))
    records = list(pretrain(task, tiny_cohort, Profile(steps=2, **{**FAST, "crop": (16, 16)})))
    assert all(math.isfinite(r.losses["total"]) for r in records)


def test_half_precision_keeps_weights_and_targets_in_float32(tiny_cohort, tiny_encoder):
    seen = {}

    class Watch(MaskedAutoencoding):
        def losses(self, views, progress):
            seen["volume"], seen["autocast"] = views["volume"].dtype, torch.is_autocast_enabled("cpu")
            return super().losses(views, progress)

    task = Watch(tiny_encoder, patch_size=8)
    records = list(pretrain(task, tiny_cohort, Profile(steps=2, precision="bf16-mixed", **FAST)))
    assert seen == {"volume": torch.float32, "autocast": True}
    assert all(math.isfinite(r.losses["total"]) for r in records)
    assert {p.dtype for p in task.parameters()} == {torch.float32}


def test_accumulation_gives_the_gradient_of_the_whole_batch(tiny_cohort, tiny_encoder):
    start = MaskedAutoencoding(tiny_encoder, patch_size=8)

    def trained(parts):
        task = copy.deepcopy(start)
        profile = Profile(steps=3, accumulate=parts, warmup=0, **{**FAST, "batch_size": 4})
        return [r.losses["total"] for r in pretrain(task, tiny_cohort, profile)], task

    (whole, task_a), (parts, task_b) = trained(1), trained(2)
    assert parts == pytest.approx(whole, rel=1e-5)
    for a, b in zip(task_a.parameters(), task_b.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_each_parameter_can_be_clipped_by_itself(tiny_cohort, tiny_encoder):
    task = MaskedAutoencoding(tiny_encoder, patch_size=8)
    profile = Profile(steps=1, clip_each_parameter=True, clip_norm=1e-3, warmup=0, **FAST)
    norms = []
    task.after_step = lambda progress: norms.extend(
        float(p.grad.norm()) for p in task.parameters() if p.grad is not None
    )
    (record,) = pretrain(task, tiny_cohort, profile)
    assert record.gradient_norm > 1e-3
    assert norms == []  # gradients are cleared before after_step: methods see weights only


def test_schedules_reach_the_optimizer(tiny_encoder):
    profile = Profile(steps=10, warmup=0.2, weight_decay=0.04, final_weight_decay=0.4)
    rates, decays = schedules(profile)
    assert rates[:3] == pytest.approx([0.5 * profile.learning_rate, profile.learning_rate, profile.learning_rate])
    assert decays[0] == pytest.approx(0.04) and decays == sorted(decays) and 0.3 < decays[-1] < 0.4
    optimizer = make_optimizer(MaskedAutoencoding(tiny_encoder), profile)
    set_schedule(optimizer, 0.5, 0.25)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.5, 0.25), (0.5, 0.0)]
    assert all(p.ndim == 1 for p in optimizer.param_groups[1]["params"])


def test_groups_of_volumes_stay_together(tiny_cohort, tiny_encoder):
    class Pairs(PretextTask):
        name, group_size, seen = "pairs", 2, []

        def views(self, volumes, generator):
            self.seen.append(len(volumes))
            return {"x": volumes}

        def losses(self, views, progress):
            return {"total": self.encoder(views["x"]).square().mean()}

    list(pretrain(Pairs(tiny_encoder), tiny_cohort, Profile(steps=1, **{**FAST, "batch_size": 4})))
    assert Pairs.seen == [2, 2]
    with pytest.raises(ValueError, match="augments 2 volumes together, and a process has 3"):
        list(pretrain(Pairs(tiny_encoder), tiny_cohort, Profile(steps=1, **{**FAST, "batch_size": 3})))


def test_a_task_must_say_its_views_and_losses(tiny_encoder):
    task = PretextTask(tiny_encoder)
    with pytest.raises(NotImplementedError, match="needs a method views"):
        task.views(torch.zeros(1, 1, 8, 8, 8), torch.Generator())
    with pytest.raises(NotImplementedError, match="needs a method losses"):
        task.losses({}, 0.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is a whole number from 1, got 0"),
        ({"crop": (32,)}, r"crop is a number of voxels per axis.*\(32,\)"),
        ({"spacing_mm": (1, 1)}, "spacing_mm is three positive numbers"),
        ({"optimizer": "sgd"}, "sgd"),
        ({"precision": "fp8"}, "fp8"),
        ({"warmup": 2}, "share of the steps"),
        ({"learning_rate": -1}, "learning_rate is not negative, got -1"),
        ({"clip_norm": 0}, "clip_norm is positive"),
    ],
)
def test_profiles_refuse_what_does_not_fit(wrong, message):
    with pytest.raises(ValueError, match=message):
        Profile(**wrong)


def test_profiles_take_lists_and_say_what_divides():
    assert Profile(crop=[8, 8, 8]) == Profile(crop=(8, 8, 8))
    assert Profile(batch_size=12, accumulate=2).per_process(3) == 2
    with pytest.raises(ValueError, match="batch_size 4 must divide into 3 process"):
        Profile(batch_size=4).per_process(3)


def test_sixteen_bits_need_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
        make_fabric("16-mixed")


def test_an_encoder_that_cannot_be_saved_is_refused_at_once(tiny_cohort, tmp_path):
    from medssl_nb.networks import FeatureUNet

    task = MaskedAutoencoding(FeatureUNet(channels=(4, 8)))
    with pytest.raises(ValueError, match="build_encoder"):
        next(pretrain(task, tiny_cohort, Profile(steps=1, **FAST), folder=tmp_path))


def test_cohort_without_images(tiny_encoder):
    empty = SimpleNamespace(name="empty", unlabelled=[])
    with pytest.raises(ValueError, match="needs images"):
        next(pretrain(MaskedAutoencoding(tiny_encoder), empty, Profile(steps=1, **FAST)))


# ---------------------------------------------------------------- progress
def records(count):
    return [
        StepRecord(i + 1, count, {"total": 1 / (i + 1)}, 1e-3, 1.0, seconds_left=count - i - 1) for i in range(count)
    ]


def test_a_log_gets_ten_lines():
    stream = io.StringIO()
    passed = list(progress_bar(records(40), stream=stream))
    lines = stream.getvalue().splitlines()
    assert len(passed) == 40
    assert len(lines) == 10
    assert lines[0] == "step 4/40: total 0.25, 36 s left"
    assert lines[-1] == "step 40/40: total 0.025"


def test_a_terminal_gets_a_bar_that_disappears():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    assert len(list(progress_bar(records(5), stream=stream))) == 5
    assert "0/5 [" in stream.getvalue()
    assert stream.getvalue().endswith("\r")
    assert not stream.getvalue().split("\r")[-2].strip()


def test_clock():
    assert [clock(s) for s in (4.2, 200, 18420)] == ["4 s", "3 min 20 s", "5 h 07 min"]
