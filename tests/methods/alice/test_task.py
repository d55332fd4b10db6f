"""The two pretext tasks: what their views hold, which terms each part brings, where crops are aimed, what moves."""

import copy
import math

import pytest
import torch

from medssl_nb.methods.alice import (
    Alice,
    AnatomicalEmbeddingNet,
    AnatomicalEmbeddingTask,
    anatomical_embedding_loss,
    cross_view_loss,
    match_points,
    reconstruction_loss,
)
from medssl_nb.methods.alice.stored import StoredEmbeddings, embed_volume, fingerprint
from medssl_nb.networks import ConvBackbone, FeatureUNet
from medssl_nb.training import Profile, pretrain
from medssl_nb.training.batches import Crop, CropDataset, make_views
from medssl_nb.training.randomness import generator_of

SMALL = {"mask_size": 8, "hidden_dim": 12, "bottleneck_dim": 8, "out_dim": 10, "casa_hidden_dim": 12}
SMALL |= {"casa_heads": 2, "casa_head_dim": 4}


def make_task(spatial_dims=3, **changes):
    torch.manual_seed(0)
    return Alice(ConvBackbone(spatial_dims, 1, (4, 4, 8, 8)), **{**SMALL, **changes})


def make_sam():
    torch.manual_seed(0)
    return AnatomicalEmbeddingNet(3, 1, (8, 8, 8, 8), 6)


def volumes(number=2, size=(32, 16, 16)):
    return torch.rand(number, 1, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def views_of_pairs(task, pairs=2, size=(32, 16, 16)):
    x = volumes(2 * pairs, size)
    return make_views(task, Crop(x, torch.zeros(len(x), 3)), seed=3, step=0, places=range(len(x)))


@pytest.fixture(scope="module")
def cohort():
    from medssl_nb.data import load_cohort

    return load_cohort("phantom", train=3, validation=0, test=0, shape=(24, 24, 24), spacing_mm=(13, 13, 14))


def settings(**changes):
    return Profile(
        **{"steps": 3, "batch_size": 2, "crop": (16, 16, 16), "check_memory": False, "health_every": 1, **changes}
    )


# ---------------------------------------------------------------- Alice: views and terms
def test_views_are_the_crops_with_a_mask_each():
    views = views_of_pairs(make_task(mask_ratio=0.6))
    assert views["images"].shape == (2, 2, 1, 32, 16, 16) and views["mask"].shape == (2, 2, 1, 32, 16, 16)
    torch.testing.assert_close(views["images"].flatten(0, 1), volumes(4), rtol=0, atol=0)
    assert views["mask"].flatten(2).sum(2).eq(math.ceil(8 * 0.6) * 8 * 8 * 16).all()  # columns of 8 x 8 x 16 voxels
    assert (views["mask"][0, 0] != views["mask"][0, 1]).any()


@pytest.mark.parametrize("dims", [2, 3])
def test_terms_are_those_of_the_contract(dims):
    size = (32, 16, 16)[:dims]
    task = make_task(dims, mask_mode="patch", casa_dropout=0.0, reconstruction_region="masked").train()
    views = views_of_pairs(task, size=size)
    images = torch.cat([views["images"][:, 0], views["images"][:, 1]])
    mask = torch.cat([views["mask"][:, 0], views["mask"][:, 1]])
    target, found = task.teacher(images), task.student(images, mask)
    temperature = float(task.criterion.temperature_schedule[0])
    terms = task.losses(views, 0.0)
    expected = cross_view_loss(found.cls, target.cls, torch.zeros(1, 10), teacher_temperature=temperature)
    torch.testing.assert_close(terms["global"], expected)
    expected = reconstruction_loss(found.reconstruction, images, mask, region="masked")
    torch.testing.assert_close(terms["reconstruction"], expected)
    total = terms["global"] + terms["patch"] + 10 * terms["reconstruction"]
    torch.testing.assert_close(terms["total"], total)


@pytest.mark.parametrize(
    "parts", [("reconstruction",), ("global",), ("global", "reconstruction"), ("patch",), ("patch", "global")]
)
def test_each_part_brings_its_term_and_no_other(parts):
    task = make_task(parts=parts)
    terms = task.losses(views_of_pairs(task), 0.5)
    assert set(terms) == {"total", *parts}
    terms["total"].backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in task.encoder.parameters())
    assert hasattr(task, "casa") == ("patch" in parts) and hasattr(task, "teacher") == (parts != ("reconstruction",))
    assert set(task.trivial_losses) == set(parts) - {"reconstruction"}


def test_outputs_that_are_all_alike_score_the_trivial_losses():
    task = make_task(parts=("global",))
    for network in (task.head, task.teacher.head):
        torch.nn.init.zeros_(network.mlp[4].weight)
    assert task.losses(views_of_pairs(task), 0.0)["global"].item() == pytest.approx(math.log(10), rel=1e-5)


def test_the_teacher_moves_by_its_momentum_and_is_never_trained():
    task = make_task(momentum=0.9, target_weights="ema").train()
    assert not task.teacher.training and task.encoder.training
    before = copy.deepcopy(task.teacher.state_dict())
    copied = task.casa.target.key_proj.weight.clone()
    with torch.no_grad():
        for p in (*task.encoder.parameters(), *task.head.parameters(), task.casa.key_proj.weight):
            p += 1
    task.after_step(0.0)
    for name, p in task.teacher.named_parameters():
        student = dict(task.student.named_parameters())[name]
        torch.testing.assert_close(p, 0.9 * before[name] + 0.1 * student)
    torch.testing.assert_close(task.casa.target.key_proj.weight, copied + 0.1)
    task.after_step(1.0)  # at the end the teacher stands still
    torch.testing.assert_close(task.casa.target.key_proj.weight, copied + 0.1)
    assert not any(p.requires_grad for p in task.teacher.parameters())


def test_last_layers_rest_at_first():
    task = make_task(freeze_last_layer=0.5)
    for progress, moves in ((0.4, False), (0.5, True)):
        task.zero_grad()
        task.losses(views_of_pairs(task), progress)["total"].backward()
        for layer in (task.head.last_layer, task.head.patch_last_layer):
            assert bool(layer.weight.grad.abs().max() > 0) == moves
        assert task.head.mlp[0].weight.grad.abs().max() > 0


def test_narrow_heads_can_be_drawn_by_their_width():
    spread = {}
    for word in ("released", "by width"):
        task = make_task(head_init=word, hidden_dim=64, bottleneck_dim=32)
        tokens = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        spread[word] = task.head.mlp(tokens).norm(dim=1).mean().item()
        torch.testing.assert_close(task.teacher.head.mlp[0].weight, task.head.mlp[0].weight, rtol=0, atol=0)
        std = task.head.mlp[2].weight.std().item()
        assert std == pytest.approx(0.02 if word == "released" else 1 / 8, rel=0.1)
    assert spread["released"] < 0.02 < 0.2 < spread["by width"]


def test_centres_and_meters_follow_the_teacher():
    task = make_task()
    views = views_of_pairs(task)
    task.losses(views, 0.0)
    images = torch.cat([views["images"][:, 0], views["images"][:, 1]])
    expected = 0.1 * task.teacher(images).cls.mean(0, keepdim=True)
    torch.testing.assert_close(task.criterion.global_center, expected)
    assert set(task.health()) == {
        f"{who} {what}" for who in ("teacher", "answer") for what in ("entropy", "outputs used")
    }
    assert 0 <= task.health()["teacher entropy"] <= math.log(10) and 1 <= task.health()["teacher outputs used"] <= 10


def test_teacher_context_and_target_weights_can_be_those_of_the_figure():
    given = [make_task(casa_dropout=0.0, teacher_context=word) for word in ("decoder", "encoder")]
    found = [float(task.losses(views_of_pairs(task), 0.3)["patch"].detach()) for task in given]
    assert found[0] != found[1]
    assert hasattr(make_task(target_weights="ema").casa, "target")


# ---------------------------------------------------------------- Alice: where crops lie
def test_mined_crops_lie_around_matches_and_random_ones_do_not(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    sam = make_sam().eval()
    options = {"margin": 2, "foreground": -0.9, "min_score": -1.0}
    dataset = CropDataset(cohort.unlabelled, settings(batch_size=4))
    for pairs in ("mined", "random"):
        task = make_task(embedding=sam, pairs=pairs, **options)
        dataset.take_aim(task.aim(dataset.volume, 3), 2)
        for step in range(2):
            for first in (0, 2):
                a, b = (dataset._case(step, place) for place in (first, first + 1))
                centres = [dataset._centre(step, place) for place in (first, first + 1)]
                crop = dataset[step, first].volume
                assert dataset.volume(a)[(0, *centres[0])] == crop[0, 8, 8, 8] > -0.9
                one, other = (
                    type(e)(*(x.half().float() for x in e))
                    for e in (embed_volume(sam, dataset.volume(i)) for i in (a, b))
                )
                match, _ = match_points(one, other, torch.tensor([centres[0]]), key_shape=(24, 24, 24))
                assert (match[0].tolist() == centres[1]) == (pairs == "mined")


def test_places_do_not_depend_on_who_asks_first(cohort):
    task = make_task(pairs="random", margin=2)
    found = []
    for order in ((0, 1, 2, 3), (3, 1, 2, 0)):
        dataset = CropDataset(cohort.unlabelled, settings(batch_size=4))
        dataset.take_aim(task.aim(dataset.volume, 3), 2)
        found.append({place: dataset[1, place].volume.sum().item() for place in order})
    assert found[0] == found[1]


def test_crops_beyond_the_volume_hold_its_smallest_value(cohort):
    dataset = CropDataset(cohort.unlabelled, settings(crop=(32, 32, 32)))
    dataset.take_aim(lambda cases, generator: [[0, 0, 0], [23, 23, 23]], 2)
    crop = dataset[0, 0]
    assert crop.volume[0, 0, 0, 0] == dataset.volume(dataset._case(0, 0)).min() and crop.place.tolist() == [0, 0, 0]
    assert dataset[0, 1].place.tolist() == [1, 1, 1]


def test_mining_needs_an_embedding_and_slices_cannot_be_aimed_at(cohort):
    with pytest.raises(ValueError, match='pairs="mined" needs embedding='):
        next(pretrain(make_task(), cohort, settings(), accelerator="cpu"))
    with pytest.raises(ValueError, match=r"crop of \(16, 16\) is a slice"):
        next(
            pretrain(
                make_task(2, pairs="random", margin=2, mask_mode="patch"),
                cohort,
                settings(crop=(16, 16)),
                accelerator="cpu",
            )
        )


def test_a_run_learns_and_another_embedding_is_another_run(cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path))
    sam = make_sam()
    tasks = [make_task(embedding=sam, margin=2), make_task(embedding=sam, margin=2), make_task(pairs="random")]
    first = [r.losses["total"] for r in pretrain(tasks[0], cohort, settings(), accelerator="cpu")]
    again = [r.losses["total"] for r in pretrain(tasks[1], cohort, settings(), accelerator="cpu")]
    assert first == again and all(map(math.isfinite, first))
    told = tasks[0].settings()["embedding"]
    with torch.no_grad():
        sam.to_fine.bias += 1e-3
    assert told != tasks[0].settings()["embedding"] and tasks[2].settings()["embedding"] is None


# ---------------------------------------------------------------- stored embeddings
def test_embeddings_are_computed_once_and_found_by_weights_and_voxels(tmp_path, monkeypatch):
    sam, x = make_sam(), volumes(2, (24, 20, 18))
    stored = StoredEmbeddings(sam, x.__getitem__, 2, tmp_path)
    stored.fill()
    assert len(list(tmp_path.rglob("*.safetensors"))) == len(stored) == 2
    direct = embed_volume(sam, x[1])
    torch.testing.assert_close(stored[1].fine, direct.fine, rtol=0, atol=1e-3)
    assert stored[1].fine.dtype == torch.float32 and direct.fine.shape == (6, 12, 10, 9)

    again = StoredEmbeddings(sam, x.__getitem__, 2, tmp_path)
    monkeypatch.setattr("medssl_nb.methods.alice.stored.embed_volume", lambda *_: pytest.fail("computed again"))
    torch.testing.assert_close(again[0].fine, stored[0].fine, rtol=0, atol=0)
    y = x.clone()
    y[0, 0, 0, 0, 0] += 1e-3
    for other in (
        StoredEmbeddings(sam, y.__getitem__, 2, tmp_path),
        StoredEmbeddings(other_weights(sam), x.__getitem__, 2, tmp_path),
    ):
        with pytest.raises(pytest.fail.Exception):
            other[0]
    with pytest.raises(IndexError, match="there are 2 volumes, asked for number 2"):
        stored[2]


def other_weights(network):
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.to_fine.weight *= 1.001
    return other


def test_a_damaged_file_is_computed_again(tmp_path):
    sam, x = make_sam(), volumes(1, (24, 20, 18))
    stored = StoredEmbeddings(sam, x.__getitem__, 1, tmp_path)
    good = stored[0]
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    torch.testing.assert_close(stored[0].fine, good.fine, rtol=0, atol=0)
    assert path.stat().st_size > 100


def test_embedding_leaves_the_mode_of_the_network_alone():
    sam = make_sam().train()
    embed_volume(sam, volumes(1, (24, 20, 18))[0])
    assert sam.training and len(fingerprint(sam)) == 32


# ---------------------------------------------------------------- SAM
def make_sam_task(**changes):
    return AnatomicalEmbeddingTask(make_sam(), **{"view_size": (18, 18, 18), "spacing_mm": (2, 2, 4), **changes})


def test_views_of_sam_know_their_places_in_mm():
    task = make_sam_task(noise_std=0.0)
    x = torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij"))[2][
        None, None
    ]  # grey value = index along Z
    views = task.views(x, torch.Generator().manual_seed(0))
    assert views["images"].shape == views["valid"].shape == (1, 2, 1, 18, 18, 18) and views["valid"].all()
    inner = (..., slice(1, -1), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(views["coordinates"][:, :, 2:][inner], 4 * views["images"][inner], rtol=0, atol=1e-3)


def test_only_foreground_asks_unless_there_is_none():
    x = volumes(1, (24, 24, 24))
    views = make_sam_task(foreground=0.2, noise_std=0.0).views(x, torch.Generator().manual_seed(0))
    assert torch.equal(views["valid"], views["images"] > 0.2)
    assert make_sam_task(foreground=5.0).views(x, torch.Generator())["valid"].all()


def test_losses_of_sam_are_those_of_the_contract():
    many = 10**6
    limits = {"hard_negatives": many, "sampled_negatives": many}
    task = make_sam_task(
        fine={"max_candidates": many, "max_queries": many, **limits}, coarse={"global_negatives": many}
    )
    task.options["coarse_options"] |= limits
    x = volumes(2, (24, 24, 24))
    views = make_views(task, Crop(x, torch.zeros(2, 3)), seed=0, step=0, places=range(2))
    found = task.losses(views, 0.0)
    embedding = task.encoder(views["images"].flatten(0, 1))
    expected = anatomical_embedding_loss(embedding, views["coordinates"], views["valid"], **task.options)
    assert set(found) == {"total", "fine", "coarse"} and task.options["coarse_options"]["axial_axis"] == 2
    for name in found:
        torch.testing.assert_close(found[name], expected[name])
    assert 0 < task.health()["fine spread"] <= 1


def test_sam_learns_in_a_few_steps(cohort):
    task = make_sam_task(
        view_size=(18, 18, 18),
        spacing_mm=13.5,
        fine={"positive_radius": 20, "ignore_radius": 40, "temperature": 0.1, "sampled_negatives": 100},
    )
    records = list(pretrain(task, cohort, settings(steps=12, crop=(24, 24, 24), learning_rate=5e-3), accelerator="cpu"))
    fine = [r.losses["fine"] for r in records]
    assert sum(fine[-3:]) < 0.95 * sum(fine[:3])
    assert task.trivial_losses["fine"] == math.log(101)


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": ()}, "parts are some of reconstruction, global, patch; got"),
        ({"parts": ("CASA",)}, r"parts are some of .* got \('CASA',\)"),
        ({"pairs": "matched"}, 'pairs is "mined" or "random", got \'matched\''),
        ({"teacher_context": "image"}, "teacher_context is .* got 'image'"),
        ({"head_init": "small"}, "head_init is .* got 'small'"),
        ({"target_weights": "own"}, "target_weights is .* got 'own'"),
        ({"mask_mode": "cubes"}, "mode is .* got 'cubes'"),
        ({"mask_ratio": 1.2}, "ratio lies between 0 and 1, got 1.2"),
        ({"momentum": 1.5}, "momentum lies between 0 and 1, got 1.5"),
        ({"freeze_last_layer": -1}, "freeze_last_layer lies between 0 and 1, got -1"),
        ({"teacher_temperature": (0.0, 0.1)}, "start is a temperature"),
        ({"reconstruction_region": "visible"}, "reconstruction_region is .* got 'visible'"),
    ],
)
def test_settings_that_make_no_task_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_task(**changes)


def test_other_encoders_are_refused():
    unet = FeatureUNet(spatial_dims=3, channels=(4, 8))
    with pytest.raises(ValueError, match="must be a ConvBackbone or SwinBackbone, got FeatureUNet"):
        Alice(unet)
    with pytest.raises(ValueError, match="must be an AnatomicalEmbeddingNet, got FeatureUNet"):
        AnatomicalEmbeddingTask(unet)


def test_the_same_seed_draws_the_same_masks():
    task = make_task()
    one, two = (task.views(volumes(), generator_of(0, "views", 1)) for _ in range(2))
    assert torch.equal(one["mask"], two["mask"])
