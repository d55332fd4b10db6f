"""Embeddings of whole volumes, computed once and kept."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from medssl_nb.data.files import write_atomically
from medssl_nb.data.locations import cache_folder
from medssl_nb.networks.anatomical import AnatomicalEmbedding


@torch.no_grad()
def embed_volume(network: nn.Module, volume: Tensor) -> AnatomicalEmbedding:
    """The embedding of one whole volume (C, *S), without batch axis, by a network in evaluation mode."""
    was_training = network.training
    network.eval()
    try:
        device = next(network.parameters()).device
        fine, coarse = network(torch.as_tensor(volume).as_subclass(Tensor)[None].to(device))
    finally:
        network.train(was_training)
    return AnatomicalEmbedding(fine[0], coarse[0])


class StoredEmbeddings(Sequence):
    """Embeddings of volumes in files: computed when first asked for, read from then on.

    A file is named by the weights and by the voxels, so another network or a changed volume never finds it. Numbers are
    kept in half precision, as the released code does; they come back in float32.

    Args:
        network: an `AnatomicalEmbeddingNet`; it stays where it is.
        volume: number of a volume to its voxels (C, *S).
        count: how many volumes there are.
        folder: where to keep the files; None: `embeddings` in the package's cache (`MEDSSL_CACHE`).
    """

    def __init__(
        self, network: nn.Module, volume: Callable[[int], Tensor], count: int, folder: str | Path | None = None
    ):
        self.network, self.volume, self.count = network, volume, count
        self.folder = (Path(folder) if folder else cache_folder() / "embeddings") / fingerprint(network)
        self._names: dict[int, str] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> AnatomicalEmbedding:
        if not 0 <= index < self.count:
            raise IndexError(f"there are {self.count} volumes, asked for number {index}.")
        path = self._path(index)
        found = _read(path)
        if found is None:
            found = AnatomicalEmbedding(*(x.cpu().half() for x in embed_volume(self.network, self.volume(index))))
            _write(path, found)
        return AnatomicalEmbedding(*(x.float() for x in found))

    def fill(self) -> None:
        """Compute what is not there yet."""
        for index in range(self.count):
            self[index]

    def _path(self, index: int) -> Path:
        if index not in self._names:
            self._names[index] = _digest([self.volume(index)])
        return self.folder / f"{self._names[index]}.safetensors"


def fingerprint(network: nn.Module) -> str:
    """A name for the weights of a network: other weights, another name."""
    return _digest(network.state_dict().values(), list(network.state_dict()))


def _digest(tensors, names: Sequence[str] = ()) -> str:
    """SHA-256 of the tensors' bytes, shapes and types, and of `names`; 32 hexadecimal digits of it."""
    found = hashlib.sha256(repr(list(names)).encode())
    for tensor in tensors:
        plain = torch.as_tensor(tensor).as_subclass(Tensor).detach().cpu().contiguous()
        found.update(f"{tuple(plain.shape)} {plain.dtype}".encode())
        found.update(plain.flatten().view(torch.uint8).numpy())
    return found.hexdigest()[:32]


def _write(path: Path, embedding: AnatomicalEmbedding) -> None:
    from safetensors.torch import save_file

    tensors = {name: x.contiguous() for name, x in embedding._asdict().items()}
    write_atomically(path, lambda draft: save_file(tensors, draft))


def _read(path: Path) -> AnatomicalEmbedding | None:
    """The embedding in a file; None if there is none, or only a damaged one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        return None
    try:
        return AnatomicalEmbedding(**load_file(path))
    except (SafetensorError, TypeError):
        return None  # damaged, or not ours: it is written again
