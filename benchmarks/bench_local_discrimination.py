"""Time and memory of patch discrimination and of similarity search against straightforward versions.

    python benchmarks/bench_local_discrimination.py            # prints
    python benchmarks/bench_local_discrimination.py --write    # and stores results/local_discrimination_speed.json

Patch discrimination of 4,096 rows (2,048 patches in two views): blocks of rows that give loss and
gradient in one walk, against the whole square matrix with the formula written down for autograd, once through
log-softmax and once as published code does it (exponentials, sums, logarithms). Region embeddings of 16 clusters: one
matrix product, against the products of every voxel's embedding with all its assignments, summed over voxels. Similarity
search of 18 landmarks in a volume: one matrix product in chunks, against one map of cosines for each landmark. Every
way runs in a process of its own, on one thread, from the same numbers; its memory is the largest that the process held,
less what it held when its input lay ready.
"""

import ways
from ways import OURS, compared, measured  # noqa: F401  (tests compare)

RESULT = "local_discrimination_speed.json"
LOSSES = (OURS, "whole matrix", "exponentials")
REGIONS = (OURS, "all products")
SEARCHES = (OURS, "map by map")
PLANS = [
    *({"what": "patch loss", "way": way, "rows": 4096, "dimensions": 32} for way in LOSSES),
    *({"what": "regions", "way": way, "side": 64, "clusters": 16, "dimensions": 32} for way in REGIONS),
    *({"what": "search", "way": way, "side": 96, "points": 18, "dimensions": 32} for way in SEARCHES),
]


# ---------------------------------------------------------------- the ways
def loss_of_whole_matrix(first, second, temperature: float = 0.1):
    """The same numbers from autograd, with square matrices for every step of the formula."""
    import torch

    x = torch.cat([first, second])
    count = len(x)
    itself = torch.eye(count, dtype=torch.bool)
    partner = itself.roll(count // 2, dims=1)
    log_share = (x @ x.detach().T / temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
    rest = (1 - log_share.exp()).clamp(min=torch.finfo(x.dtype).eps)
    negatives = rest.log().masked_fill(itself | partner, 0.0)
    return -(log_share[partner].sum() + negatives.sum()) / count


def loss_of_exponentials(first, second, temperature: float = 0.1):
    """Exponentials, their sums, logarithms; the positive's 1 - P is formed and subtracted again."""
    import torch

    x = torch.cat([first, second])
    count = len(x)
    itself = torch.eye(count, dtype=torch.bool)
    e = (x @ x.detach().T / temperature).exp().masked_fill(itself, 0.0)
    share = e / (e.sum(dim=1, keepdim=True) + 1e-10)
    own = share[torch.arange(count), torch.arange(count).roll(-(count // 2))]
    return -(own.log().sum() + (1 - share).log().sum() - (1 - own).log().sum()) / count


def regions_of_all_products(embeddings, assignments):
    """(B, K, D, *S) numbers, then their mean."""
    import torch

    products = assignments[:, :, None] * embeddings[:, None]
    mean = products.flatten(3).mean(dim=3)
    return mean / (torch.linalg.vector_norm(mean, dim=2, keepdim=True) + 1e-10)


def search_map_by_map(template, points, query):
    """One map of cosines for each landmark."""
    import torch
    import torch.nn.functional as F

    found = []
    for point in points.tolist():
        wanted = template[(slice(None), *point)].view(-1, 1, 1, 1)
        cosine = F.cosine_similarity(query, wanted, dim=0)
        found.append(torch.stack(torch.unravel_index(cosine.argmax(), cosine.shape)))
    return torch.stack(found)


# ---------------------------------------------------------------- measuring
def measure(plan: dict, runs: int) -> dict:
    """Seconds and memory of one way, in this process; losses forward and backward, searches forward."""
    import torch
    import torch.nn.functional as F

    from medssl_nb.evaluation.landmarks import locate_by_features
    from medssl_nb.methods.local_discrimination import patch_discrimination_loss, region_embeddings

    generator, way, size = torch.Generator().manual_seed(0), plan["way"], plan["dimensions"]
    if plan["what"] == "patch loss":
        first = F.normalize(torch.randn(plan["rows"] // 2, size, generator=generator), dim=1)
        second = F.normalize(first + 0.1 * torch.randn(first.shape, generator=generator), dim=1)
        made = {OURS: patch_discrimination_loss, LOSSES[1]: loss_of_whole_matrix, LOSSES[2]: loss_of_exponentials}
        return measured(lambda: made[way](first, second), [first.requires_grad_(), second.requires_grad_()], runs)
    side = (plan["side"],) * 3
    z = F.normalize(torch.randn(1, size, *side, generator=generator), dim=1)
    if plan["what"] == "regions":
        a = torch.randn(1, plan["clusters"], *side, generator=generator).softmax(dim=1)
        made = {OURS: region_embeddings, REGIONS[1]: regions_of_all_products}
        signs = torch.randn(1, plan["clusters"], size, generator=generator)
        inputs = [z.requires_grad_(), a.requires_grad_()]
        return measured(lambda: (made[way](z, a) * signs).sum(), inputs, runs)
    template = F.normalize(torch.randn(size, *side, generator=generator), dim=0)
    points = torch.randint(plan["side"], (plan["points"], 3), generator=generator)
    made = {OURS: locate_by_features, SEARCHES[1]: search_map_by_map}
    return measured(lambda: made[way](template, points, z[0]).double().mean(), [], runs, backward=False)


if __name__ == "__main__":
    ways.main(__file__, __doc__, measure, PLANS, RESULT)
