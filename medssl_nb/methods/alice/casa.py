"""CASA, conditional anatomical semantic alignment: the same questions asked of the student's and the teacher's map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl_nb.methods.alice.checks import check_share
from medssl_nb.precision import at_least_float32
from medssl_nb.training.averages import ema_update


class _Answer(nn.Module):
    """What reads a context: keys, values and all that follows. The question is asked outside."""

    def __init__(self, dim: int, hidden_dim: int, inner: int):
        super().__init__()
        self.key_proj = nn.Linear(dim, inner, bias=False)
        self.value_proj = nn.Linear(dim, inner, bias=False)
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self.attention_norm = nn.LayerNorm(dim, eps=1e-6)
        self.ffn_in = nn.Linear(dim, hidden_dim)
        self.ffn_out = nn.Linear(hidden_dim, dim)
        self.ffn_norm = nn.LayerNorm(dim, eps=1e-6)


class CASA(_Answer):
    """Cross-attention that turns a map into answers to the student's questions, for student and teacher alike.

    Per head A = softmax(q W_Q (c W_K)^T / sqrt(d)); u = LN(q + A c W_V W_O); y = LN(u + W_2 relu(W_1 u + b_1) + b_2).
    The question q goes through unchanged (the residual), so answers may agree without a look at the context.

    Args:
        dim: D, length of tokens.
        hidden_dim: of the feed-forward part.
        num_heads, head_dim: H and d.
        dropout: of attention, of what it adds and of what the feed-forward part adds; in training mode.
        target_weights: "shared": the teacher's map is read with the same weights, as in the released code; "ema": with
            a moving average of them (the question's weights stay shared), as the paper's figure draws it. See
            `update_target`.

    Raises:
        ValueError: unknown `target_weights`, sizes below 1; in use: tokens that do not fit, an empty context.
    """

    def __init__(
        self,
        dim: int = 512,
        hidden_dim: int = 2048,
        num_heads: int = 8,
        head_dim: int = 64,
        dropout: float = 0.1,
        target_weights: str = "shared",
    ):
        sizes = {"dim": dim, "hidden_dim": hidden_dim, "num_heads": num_heads, "head_dim": head_dim}
        if min(sizes.values()) < 1:
            raise ValueError(f"dim, hidden_dim, num_heads and head_dim count from 1, got {sizes}.")
        if target_weights not in ("shared", "ema"):
            raise ValueError(f'target_weights is "shared" or "ema", got {target_weights!r}.')
        check_share("dropout", dropout)
        super().__init__(dim, hidden_dim, num_heads * head_dim)
        self.query_proj = nn.Linear(dim, num_heads * head_dim, bias=False)
        self.dim, self.num_heads, self.head_dim = dim, num_heads, head_dim
        self.dropout, self.target_weights = dropout, target_weights
        if target_weights == "ema":
            self.target = _Answer(dim, hidden_dim, num_heads * head_dim).requires_grad_(False)
            self.target.load_state_dict(self._answering().state_dict())

    def forward(self, query: Tensor, online_context: Tensor, target_context: Tensor) -> tuple[Tensor, Tensor]:
        """The answers of both contexts to the same questions, gradients intact: two tensors (N, N_q, D).

        Args:
            query: (N, N_q, D), the student's encoder tokens.
            online_context: (N, N_c, D), the student's decoder tokens.
            target_context: (N, N_c', D), the teacher's tokens.
        """
        return self.attend(query, online_context), self.attend(query, target_context, target=True)

    def attend(self, query: Tensor, context: Tensor, *, target: bool = False, return_attention: bool = False):
        """Answers (N, N_q, D) of a context (N, N_c, D) to `query` (N, N_q, D).

        Args:
            target: read the context as the teacher's.
            return_attention: also return the attention before dropout, (N, H, N_q, N_c), rows that sum to 1.
        """
        self._check(query, context)
        read = self.target if target and self.target_weights == "ema" else self
        questions, keys, values = (
            x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)  # (N, H, tokens, d)
            for x in (self.query_proj(query), read.key_proj(context), read.value_proj(context))
        )
        scores = questions @ keys.transpose(2, 3) / self.head_dim**0.5
        attention = at_least_float32(scores).softmax(dim=-1)
        seen = self._drop(attention).to(values.dtype) @ values
        u = read.attention_norm(query + self._drop(read.out_proj(seen.transpose(1, 2).flatten(2))))
        y = read.ffn_norm(u + self._drop(read.ffn_out(F.relu(read.ffn_in(u)))))
        return (y, attention) if return_attention else y

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Move the copy that reads the teacher's map: copy <- momentum * copy + (1 - momentum) * weights.

        Does nothing with target_weights="shared".

        Raises:
            ValueError: `momentum` outside [0, 1].
        """
        check_share("momentum", momentum)
        if self.target_weights == "ema":
            ema_update(self.target, self._answering(), momentum)

    def _answering(self) -> nn.ModuleDict:
        """The parts that have a copy, under the names they have there."""
        return nn.ModuleDict(
            {name: part for name, part in self.named_children() if name not in ("query_proj", "target")}
        )

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def _check(self, query: Tensor, context: Tensor) -> None:
        if query.ndim != 3 or context.ndim != 3 or not query.shape[2] == context.shape[2] == self.dim:
            raise ValueError(
                f"query and context are tokens (N, N_q, {self.dim}) and (N, N_c, {self.dim}), got "
                f"{tuple(query.shape)} and {tuple(context.shape)}."
            )
        if len(query) != len(context):
            raise ValueError(f"query and context speak of the same samples, got {len(query)} and {len(context)}.")
        if not context.shape[1]:
            raise ValueError("context is empty: there is nothing to look at.")
