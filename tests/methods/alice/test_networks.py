"""Head, student and teacher: reference numbers, by hand, laws, edges, messages."""

import pytest
import torch
from torch import nn

from medssl_nb.methods.alice import (
    AliceHead,
    AliceNetwork,
    AliceOutput,
    ConvBackbone,
    UnitNormLinear,
    make_teacher,
    mask_volume,
)

NAMES = {
    *(
        f"{part}.{kind}"
        for part in ("encoder_proj", "decoder_proj", "mlp.0", "mlp.2", "mlp.4")
        for kind in ("weight", "bias")
    ),
    *(f"{part}.{kind}" for part in ("last_layer", "patch_last_layer") for kind in ("weight", "scale")),
}
SIZES = {2: (32, 48), 3: (16, 16, 32)}


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def close(found, expected, **tolerance):
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), check_dtype=False, **tolerance)


def seeded(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def small_head(**options):
    widths = {"global_dim": 16, "encoder_dim": 16, "decoder_dim": 16, "out_dim": 12, "patch_out_dim": 12}
    return seeded(lambda: AliceHead(**{**widths, "hidden_dim": 16, "bottleneck_dim": 8, **options}))


def student(dims=2, **options):
    return AliceNetwork(seeded(lambda: ConvBackbone(dims, widths=(8, 8, 16, 16))), small_head(**options))


def maps(dtype=torch.float64, spatial=((2, 2, 1), (2, 2, 2))):
    return (
        noise(4, 16, dtype=dtype),
        noise(4, 16, *spatial[0], seed=1, dtype=dtype),
        noise(4, 16, *spatial[1], seed=2, dtype=dtype),
    )


# ------------------------------------------------------------ rows of unit length


def test_rows_have_unit_length(dtype):
    layer = seeded(lambda: UnitNormLinear(5, 7)).to(dtype)
    with torch.no_grad():
        layer.weight.mul_(torch.arange(1, 8).reshape(7, 1))
    x = noise(2, 3, 5, dtype=dtype)
    found = layer(x)
    assert found.shape == (2, 3, 7) and found.dtype == dtype
    weight = layer.weight.detach()
    close(found, x @ (weight / weight.norm(dim=1, keepdim=True)).T)
    close(layer(weight / weight.norm(dim=1, keepdim=True)).diagonal(), torch.ones(7))


def test_the_scale_is_one_and_learns_only_when_told():
    layer = UnitNormLinear(5, 7)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"weight": (7, 5), "scale": (7, 1)}
    assert (layer.scale == 1).all() and not layer.scale.requires_grad and layer.weight.requires_grad
    learned = UnitNormLinear(5, 7, learn_scale=True).double()
    assert learned.scale.requires_grad
    x = noise(3, 5)
    with torch.no_grad():
        learned.scale.copy_(torch.arange(7).reshape(7, 1))
    rows = learned.weight / learned.weight.norm(dim=1, keepdim=True)
    close(learned(x), x @ rows.T * torch.arange(7))


def test_gradients_turn_rows_and_do_not_stretch_them():
    layer = seeded(lambda: UnitNormLinear(5, 7)).double()
    (layer(noise(3, 5)) * noise(3, 7, seed=1)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0
    close((layer.weight * layer.weight.grad).sum(1), torch.zeros(7, dtype=torch.float64), rtol=0, atol=1e-12)


# ------------------------------------------------------------ the head


def from_reference(reference, dtype, device):
    config = reference.number("head/config")
    head = AliceHead(*config[:7], shared_last_layer=bool(config[7])).to(device, dtype)
    report = head.load_state_dict(reference.parameters("head/param/", dtype, device), strict=False)
    assert set(report.missing_keys) == {"last_layer.scale", "patch_last_layer.scale"} and not report.unexpected_keys
    return head


def test_the_head_matches_the_reference(reference, dtype, device):
    head = from_reference(reference, dtype, device)
    names = ("global_token", "encoder_map", "decoder_map")
    given = [reference(f"head/{n}", dtype, device).requires_grad_() for n in names]
    found = head(*given)
    for part, name in zip(found, ("cls", "encoder_tokens", "decoder_tokens"), strict=True):
        assert part.dtype == dtype and part.device.type == device
        reference.check(part, f"head/{name}")
    (found[0] * reference("head/probe_cls", dtype, device)).sum().backward()
    reference.check(given[0].grad, "head/grad_global_token")
    assert given[1].grad is None or (given[1].grad == 0).all()


def test_outputs_are_cosines(dtype):
    head, given = small_head().to(dtype), maps(dtype)
    cls, encoder, decoder = head(*given)
    assert cls.shape == (4, 12) and encoder.shape == (4, 4, 12) and decoder.shape == (4, 8, 12)
    for part in (cls, encoder, decoder):
        assert (part.abs() <= 1 + 1e-5).all()
    scaled = head(1000 * given[0], *given[1:])[0]
    assert (scaled.abs() <= 1 + 1e-5).all() and not torch.allclose(scaled, cls)


@pytest.mark.parametrize("spatial", [((3,), (5,)), ((2, 3), (4, 2)), ((2, 1, 3), (2, 2, 2)), ((1, 1, 1), (2, 2, 2))])
def test_tokens_keep_their_places(spatial):
    """Row-major order, and every token stands for its own position alone."""
    head, given = small_head().double(), maps(spatial=spatial)
    cls, encoder, decoder = head(*given)
    ones = (1,) * len(spatial[0])
    for which, tokens in ((1, encoder), (2, decoder)):
        columns = given[which].flatten(2)
        assert tokens.shape[1] == columns.shape[2]
        for place in range(columns.shape[2]):
            alone = list(given)
            alone[which] = columns[:, :, place].reshape(4, 16, *ones)
            again = head(*alone)
            close(again[which][:, 0], tokens[:, place])
            close(again[0], cls)  # the global token sees no map


def test_the_head_follows_its_equations():
    head, given = small_head(global_dim=10).double(), maps()
    given = (given[0][:, :10], *given[1:])
    w = {name: p.detach() for name, p in head.named_parameters()}

    def logits(x, last):
        for layer in ("mlp.0", "mlp.2"):
            x = nn.functional.gelu(x @ w[f"{layer}.weight"].T + w[f"{layer}.bias"])
        x = x @ w["mlp.4.weight"].T + w["mlp.4.bias"]
        rows = w[f"{last}.weight"]
        return x / x.norm(dim=-1, keepdim=True) @ (rows / rows.norm(dim=1, keepdim=True)).T

    expected = [logits(given[0], "last_layer")]
    for tokens, part in ((given[1], "encoder_proj"), (given[2], "decoder_proj")):
        tokens = tokens.flatten(2).transpose(1, 2)
        expected.append(logits(tokens @ w[f"{part}.weight"].T + w[f"{part}.bias"], "patch_last_layer"))
    for found, wanted in zip(head(*given), expected, strict=True):
        close(found, wanted)


def test_names_shapes_and_first_values():
    head = small_head(global_dim=300, encoder_dim=40, decoder_dim=50, hidden_dim=200)
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters()}
    assert set(shapes) == NAMES == set(head.state_dict())
    assert shapes["encoder_proj.weight"] == (300, 40) and shapes["decoder_proj.weight"] == (300, 50)
    assert shapes["mlp.0.weight"] == (200, 300) and shapes["mlp.4.weight"] == (8, 200)
    assert shapes["last_layer.weight"] == shapes["patch_last_layer.weight"] == (12, 8)
    for name, parameter in head.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all()
        elif name.endswith("scale"):
            assert (parameter == 1).all() and not parameter.requires_grad
        elif name.startswith(("mlp", "encoder", "decoder")):
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.1)
    learned = small_head(norm_last_layer=False)
    assert learned.last_layer.scale.requires_grad and learned.patch_last_layer.scale.requires_grad


def test_a_shared_last_layer_is_one_module():
    head = small_head(shared_last_layer=True)
    assert head.patch_last_layer is head.last_layer
    names = dict(head.named_parameters())
    assert set(names) == {name for name in NAMES if not name.startswith("patch_last_layer")}
    head = head.double()
    given = maps()
    head(*given)[1].sum().backward()
    assert head.last_layer.weight.grad.abs().sum() > 0
    apart = small_head().double()
    apart(*given)[1].sum().backward()
    assert apart.last_layer.weight.grad is None or (apart.last_layer.weight.grad == 0).all()
    other = small_head(patch_out_dim=5).double()
    assert [part.shape[-1] for part in other(*given)] == [12, 5, 5]


def test_a_bottleneck_without_length_gives_zeros():
    head = small_head()
    with torch.no_grad():
        head.mlp[4].weight.zero_()
    found = head(*maps(torch.float32))
    assert all((part == 0).all() for part in found)
    found[0].sum().backward()
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


def test_mixed_precision_stays_close():
    head, given = small_head(), maps(torch.float32)
    with torch.no_grad():
        for layer in (0, 2, 4):
            head.mlp[layer].weight.mul_(20)
        exact = head(*given)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = head(*given)
    for one, other in zip(mixed, exact, strict=True):
        close(one.float(), other, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shared_last_layer": True, "patch_out_dim": 5}, r"(?s)12.*5|5.*12"),
        ({"out_dim": 0}, r"out.*0"),
        ({"bottleneck_dim": 0}, r"\b0\b"),
        ({"hidden_dim": -3}, r"hidden_dim.*-3"),
    ],
)
def test_heads_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small_head(**options)


@pytest.mark.parametrize(
    ("which", "shape", "message"),
    [
        (0, (4, 15), r"(?s)global_token.*15"),
        (0, (4, 16, 1), r"(?s)global_token.*4, 16, 1"),
        (1, (4, 15, 2, 2), r"(?s)encoder_map.*15"),
        (1, (4, 16), r"(?s)encoder_map.*4, 16"),
        (2, (4, 17, 2, 2), r"(?s)decoder_map.*17"),
        (2, (3, 16, 2, 2), r"(?s)3"),
    ],
)
def test_maps_that_are_refused(which, shape, message):
    given = list(maps(torch.float32))
    given[which] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        small_head()(*given)


# ------------------------------------------------------------ student


@pytest.mark.parametrize("dims", [2, 3])
def test_the_network_shapes(dims):
    net, x = student(dims), noise(2, 1, *SIZES[dims], dtype=torch.float32)
    found = net(x)
    assert isinstance(found, AliceOutput)
    voxels = x[0, 0].numel()
    assert found.cls.shape == (2, 12) and found.reconstruction.shape == x.shape
    assert found.encoder_tokens.shape == (2, voxels // 16**dims, 12)
    assert found.decoder_tokens.shape == (2, voxels // 8**dims, 12)
    parts = net.backbone(x)
    cls, encoder, decoder = net.head(*parts[:3])
    for one, other in zip(found, (cls, encoder, decoder, parts.reconstruction), strict=True):
        close(one, other)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_mask_hides_the_image(dims):
    net, x = student(dims).double(), noise(2, 1, *SIZES[dims])
    copy, mask = x.clone(), noise(2, 1, *SIZES[dims], seed=1) > 0
    found = net(x, mask)
    for one, other in zip(found, net(mask_volume(x, mask)), strict=True):
        close(one, other)
    changed = torch.where(mask, x + 5, x)
    for one, other in zip(found, net(changed, mask), strict=True):
        close(one, other)  # what is hidden cannot be seen
    assert not torch.allclose(found.cls, net(x).cls)
    for one, other in zip(net(x, torch.zeros_like(mask)), net(x), strict=True):
        close(one, other)
    assert all(part.isfinite().all() for part in net(x, torch.ones_like(mask)))
    assert torch.equal(x, copy)


def test_a_single_encoder_token_is_legal():
    found = student(3)(noise(2, 1, 16, 16, 16, dtype=torch.float32))
    assert found.encoder_tokens.shape == (2, 1, 12) and found.decoder_tokens.shape == (2, 8, 12)


def test_every_part_of_the_student_learns():
    net, x = student().double(), noise(2, 1, *SIZES[2])
    sum((part * noise(*part.shape, seed=1)).sum() for part in net(x, noise(*x.shape) > 0)).backward()
    missing = {name for name, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    assert not {name for name in missing if name.startswith("head.")}
    assert all(p.grad is None for p in net.parameters() if not p.requires_grad)


@pytest.mark.parametrize("shape", [(3, 1, 32, 48), (2, 1, 32, 32), (32, 32), (2, 1, 48, 32)])
def test_masks_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="(?s)mask.*" + ", ".join(map(str, shape))):
        student()(torch.zeros(2, 1, 32, 48), torch.zeros(shape, dtype=torch.bool))


# ------------------------------------------------------------ teacher


@pytest.mark.parametrize("share", [True, False])
def test_the_teacher_is_a_frozen_copy(share):
    net = student().train()
    teacher = make_teacher(net, share_last_layer=share)
    assert isinstance(teacher, AliceNetwork)
    assert not any(module.training for module in teacher.modules()) and all(module.training for module in net.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for name, p in net.named_parameters() if not name.endswith("scale"))
    mine = dict(net.named_parameters())
    places = {p.data_ptr() for p in mine.values()}
    for name, parameter in teacher.named_parameters():
        assert torch.equal(parameter, mine[name]) and parameter.data_ptr() not in places
    assert (set(mine) - {name for name, _ in teacher.named_parameters()}) == (
        {"head.patch_last_layer.weight", "head.patch_last_layer.scale"} if share else set()
    )
    x = noise(2, 1, *SIZES[2], dtype=torch.float32)
    assert net.head.patch_last_layer is not net.head.last_layer
    found, own = teacher(x), net.eval()(x)
    close(found.cls, own.cls)
    close(found.reconstruction, own.reconstruction)
    assert torch.allclose(found.encoder_tokens, own.encoder_tokens) is not share


def test_the_teacher_starts_from_the_students_global_layer():
    net = student()
    teacher = make_teacher(net)
    assert teacher.head.patch_last_layer is teacher.head.last_layer
    assert torch.equal(teacher.head.patch_last_layer.weight, net.head.last_layer.weight)
    assert not torch.equal(teacher.head.patch_last_layer.weight, net.head.patch_last_layer.weight)
    one = make_teacher(student(shared_last_layer=True), share_last_layer=False)
    assert one.head.patch_last_layer is one.head.last_layer  # the student had one layer only


def test_a_layer_cannot_be_shared_between_two_sizes():
    net = student(patch_out_dim=5)
    with pytest.raises(ValueError, match=r"(?s)12.*5|5.*12"):
        make_teacher(net)
    assert make_teacher(net, share_last_layer=False).head.patch_last_layer.weight.shape == (5, 8)
