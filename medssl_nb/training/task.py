"""The face that every pre-training method shows to the loop, the comparison and the recipes."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

Views = dict[str, Tensor]  # what one step needs, each entry with the samples along its first axis
# Numbers of the cases in a group, and a CPU generator, to the voxel in the middle of the crop of each.
Aim = Callable[[Sequence[int], torch.Generator], Sequence[Sequence[int]]]


class PretextTask(nn.Module):
    """A method of self-supervised learning, as the training loop sees it.

    A method overrides `views` and `losses`, and what else it needs. Everything that must survive an interruption
    (teacher, centres, queues, counters) is a parameter or buffer, so that `state_dict` holds it.

    Attributes:
        name: word for recipes, results and pictures.
        encoder: what transfer keeps; any module with the encoder face (see `medssl_nb.networks`).
        group_size: how many volumes `views` must see together: 1 augments each volume by itself, 2 makes pairs, None
            takes all that the process has. With a number, a run does not depend on how many processes share the batch.
        needs_places: `views` gets a third argument, `where` (G, 3): where each crop lies among all places it could have
            in its volume, 0 (first) to 1 (last) along X, Y, Z.
        trivial_losses: loss term -> what a collapsed or thoughtless model scores; drawn on every loss plot.
    """

    name: ClassVar[str] = "pretext task"
    group_size: int | None = 1
    needs_places: ClassVar[bool] = False

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def aim(self, volume: Callable[[int], Tensor], count: int) -> Aim | None:
        """Called once before a run: how this method chooses where the crops of a group lie; None: anywhere.

        Args:
            volume: number of a case to its whole prepared volume (C, X, Y, Z).
            count: how many cases there are.
        """
        return None

    def views(self, volumes: Tensor, generator: torch.Generator) -> Views:
        """Augment, mask, mine pairs: all randomness of a step is here, and comes from `generator` (on the CPU).

        Args:
            volumes: crops (G, C, *S), G = `group_size`, on the device of the run.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method views(volumes, generator).")

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Scalars of this step: "total", which is minimised, and its named terms.

        Args:
            views: what `views` returned, groups joined along the first axis.
            progress: share of the run that is done, 0 at the first step, below 1 at the last.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method losses(views, progress).")

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step: moving averages, centres."""

    def health(self) -> dict[str, float]:
        """Collapse meters of the last step: spread of embeddings, share of used clusters, entropy of the teacher."""
        return {}

    @property
    def trivial_losses(self) -> dict[str, float]:
        return {}

    def settings(self) -> dict:
        """Plain values that say what this task is; a checkpoint is continued only by a task with the same."""
        return {}
