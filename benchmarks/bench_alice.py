"""Time and memory of matching points and of SAM's losses against straightforward versions.

    python benchmarks/bench_alice.py            # prints
    python benchmarks/bench_alice.py --write    # and stores results/alice_speed.json

Matching 1,000 points in the embedding of a 96 x 96 x 96 volume (fine grid 48 x 48 x 48, 32 or 128 numbers a voxel): a
search in blocks of voxels that never holds a whole map, against all maps of similarity at once, and against one map
after the other. SAM's fine loss with 100 voxels of each view that may ask and their 2,000 hardest negatives: distances
and similarities of those alone, against whole matrices of all voxels with all voxels, of which the same rows are taken.
For views of 96 x 96 x 32 (fine grid 48 x 48 x 16) each such matrix would fill 22 GB, so they are set against each other
on a grid of 24 x 24 x 12; ours is measured at full size too, with the limits of training. Every way runs in a process
of its own, on one thread, from the same numbers; its memory is the largest that the process held, less what it held
when its input lay ready.
"""

import ways
from ways import OURS, compared, measured  # noqa: F401  (tests compare)

RESULT = "alice_speed.json"
MATCHES = (OURS, "all maps at once", "map by map")
LOSSES = (OURS, "whole matrices")
PLANS = [
    *(
        {"what": "matching", "way": way, "side": 48, "points": 1000, "dimensions": size}
        for size in (32, 128)
        for way in MATCHES
    ),
    *({"what": "fine loss", "way": way, "grid": [24, 24, 12], "dimensions": 128} for way in LOSSES),
    {"what": "fine loss at full size", "way": OURS, "grid": [48, 48, 16], "dimensions": 128},
]


# ---------------------------------------------------------------- the ways
def match_all_maps(query, key, points, side):
    """Every similarity of every point at once: (P, *S)."""
    from medssl_nb.methods.alice import similarity_map

    return similarity_map(query, key, points // 2).flatten(1).max(dim=1)


def match_map_by_map(query, key, points, side):
    """One point after the other, each with the resized coarse map made anew, as in the released code."""
    import torch
    import torch.nn.functional as F

    found = []
    for point in (points // 2).tolist():
        at = (slice(None), *point)
        similarity = torch.einsum("cxyz,c->xyz", key.fine, query.fine[at])
        wide = [
            F.normalize(
                F.interpolate(e.coarse[None], e.fine.shape[1:], mode="trilinear", align_corners=False)[0], dim=0
            )
            for e in (query, key)
        ]
        similarity = 0.5 * (similarity + torch.einsum("cxyz,c->xyz", wide[1], wide[0][at]))
        found.append(similarity.max())
    return torch.stack(found), None


def whole_matrix_loss(fine, coarse, coordinates, valid, hard, temperature=0.5, positive_radius=5.0, ignore_radius=3.0):
    """All distances and similarities of both views with both, then the rows that ask."""
    import torch
    import torch.nn.functional as F

    count = fine[0, 0].numel()
    voxels, places = (x.flatten(2).transpose(1, 2).flatten(0, 1) for x in (fine, coordinates))  # (2N, E), (2N, n)
    distance = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
    wide = F.normalize(F.interpolate(coarse, fine.shape[2:], mode="trilinear", align_corners=False), dim=1)
    wide = wide.flatten(2).transpose(1, 2).flatten(0, 1)
    similarity = voxels @ voxels.T
    hardness = (similarity + wide @ wide.T).detach().masked_fill(distance < ignore_radius, -torch.inf)
    asks = valid.flatten()
    ends = [
        (places[own][asks[own]].amin(0), places[own][asks[own]].amax(0)) for own in (slice(count), slice(count, None))
    ]
    low, high = torch.maximum(ends[0][0], ends[1][0]), torch.minimum(ends[0][1], ends[1][1])
    asks = asks & ((places >= low) & (places <= high)).all(1)
    across = distance.clone()
    across[:count, :count] = across[count:, count:] = torch.inf
    nearest = across.min(dim=1)
    rows = (asks & (nearest.values < positive_radius)).nonzero()[:, 0]
    best = hardness[rows].topk(min(hard, 2 * count), dim=1)
    negatives = similarity[rows].gather(1, best.indices).masked_fill(best.values.isinf(), -torch.inf)
    logits = torch.cat([similarity[rows, nearest.indices[rows]][:, None], negatives], dim=1) / temperature
    return (logits.logsumexp(1) - logits[:, 0]).mean()


# ---------------------------------------------------------------- measuring
def measure(plan: dict, runs: int) -> dict:
    """Seconds and memory of one way, in this process; losses forward and backward, matches forward."""
    import torch
    import torch.nn.functional as F

    from medssl_nb.methods.alice import AnatomicalEmbedding, fine_contrastive_loss, match_points

    generator, way, size = torch.Generator().manual_seed(0), plan["way"], plan["dimensions"]

    def unit(*shape):
        return F.normalize(torch.randn(shape, generator=generator), dim=-4)

    if plan["what"] == "matching":
        side = (plan["side"],) * 3
        query, key = (AnatomicalEmbedding(unit(size, *side), unit(size, *(s // 8 for s in side))) for _ in range(2))
        image = tuple(2 * s for s in side)
        points = torch.randint(image[0], (plan["points"], 3), generator=generator)
        made = {
            OURS: lambda: match_points(query, key, points, key_shape=image)[1],
            MATCHES[1]: lambda: match_all_maps(query, key, points, image).values,
            MATCHES[2]: lambda: match_map_by_map(query, key, points, image)[0],
        }
        fewer = 1 if way == MATCHES[2] else runs  # minutes
        return measured(lambda: made[way]().double().mean(), [], fewer, backward=False)
    grid = tuple(plan["grid"])
    fine, coarse = unit(2, size, *grid).requires_grad_(), unit(2, size, *(max(2, g // 8) for g in grid))
    place = torch.stack(torch.meshgrid(*[torch.arange(g) * 4.0 for g in grid], indexing="ij"))
    coordinates = torch.stack([place, place + 2.0])
    if plan["what"] == "fine loss at full size":
        return measured(
            lambda: fine_contrastive_loss(fine, coarse, coordinates, generator=torch.Generator().manual_seed(1)),
            [fine],
            runs,
        )
    valid = torch.zeros(2, coordinates[0, 0].numel(), dtype=torch.bool)
    for view in valid:
        view[torch.randperm(len(view), generator=generator)[:100]] = True
    valid = valid.view(2, 1, *grid)
    limits = {"max_queries": 1000, "hard_negatives": 2000, "sampled_negatives": 2000}
    made = {
        OURS: lambda: fine_contrastive_loss(fine, coarse, coordinates, valid, **limits),
        LOSSES[1]: lambda: whole_matrix_loss(fine, coarse, coordinates, valid, 2000),
    }
    return measured(made[way], [fine], runs)


if __name__ == "__main__":
    ways.main(__file__, __doc__, measure, PLANS, RESULT)
