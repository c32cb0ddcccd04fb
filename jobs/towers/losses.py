"""Softmax over the catalogue: whole, or sampled with its correction.

Shape suffixes: N labels, T titles, D width, M sampled columns.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 1_000_000, "cuda": 64_000_000}
"""Logits held at once: on a CPU few enough to stay in cache (a fifth faster than 16 million)."""


def _chunks(rows: int, columns: int, device: torch.device) -> Iterator[slice]:
    step = max(CHUNK_ELEMENTS[device.type] // max(columns, 1), 1)
    return (slice(start, start + step) for start in range(0, rows, step))


def _product_type(like: Tensor) -> torch.dtype:
    """What matrices are multiplied in: autocast's type where it is on. Sums and exponentials keep the tensors' own."""
    device = like.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype


class _Softmax(torch.autograd.Function):
    """Mean cross-entropy in chunks of rows, with the gradients made in the same pass: logits are never kept. Exponentials
    stay as the product made them and N x D products are divided by the sums, not N x T probabilities (a fifth faster)."""

    @staticmethod
    def forward(ctx, query_ND, column_TD, own_N, temperature):
        scale = 1.0 / temperature
        grad_query, grad_column = torch.empty_like(query_ND), torch.zeros_like(column_TD)
        loss, low = query_ND.new_zeros(()), _product_type(query_ND)
        column = column_TD.to(low)
        for chunk in _chunks(len(query_ND), len(column_TD), query_ND.device):
            query, own = query_ND[chunk], own_N[chunk, None]
            error = ((query * scale).to(low) @ column.T).exp_()
            own_N1, total_N1 = error.gather(1, own).to(query.dtype), error.sum(1, keepdim=True, dtype=query.dtype)
            loss += (total_N1.log() - own_N1.log()).sum()
            error.scatter_(1, own, (own_N1 - total_N1).to(low))  # times the sum
            grad_query[chunk] = (error @ column) / total_N1
            grad_column += error.T @ (query / total_N1).to(low)
        factor = scale / len(query_ND)
        ctx.save_for_backward(grad_query * factor, grad_column * factor)
        return loss / len(query_ND)

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad_query, grad_column = ctx.saved_tensors
        return grad * grad_query, grad * grad_column, None, None


class _CorrectedSoftmax(torch.autograd.Function):
    """As above, of a positive a row against sampled columns; each logit's exponential is taken once."""

    @staticmethod
    def forward(ctx, query_ND, own_ND, column_MD, own_title_N, title_M, log_expected_M, temperature):
        scale = 1.0 / temperature
        grad_query, grad_own, grad_column = torch.empty_like(query_ND), torch.empty_like(own_ND), torch.zeros_like(column_MD)
        loss, low = query_ND.new_zeros(()), _product_type(query_ND)
        column = column_MD.to(low)
        for chunk in _chunks(len(query_ND), len(column_MD), query_ND.device):
            query, own = query_ND[chunk], own_ND[chunk]
            positive_N1 = (query * own).sum(1, keepdim=True) * scale
            logits = ((query * scale).to(low) @ column.T).to(query.dtype).sub_(log_expected_M)
            logits.masked_fill_(title_M == own_title_N[chunk, None], float("-inf"))
            top_N1 = torch.maximum(logits.amax(1, keepdim=True), positive_N1)
            p_NM, p_N1 = logits.sub_(top_N1).exp_(), (positive_N1 - top_N1).exp_()
            total_N1 = p_NM.sum(1, keepdim=True) + p_N1
            loss -= (positive_N1 - top_N1 - total_N1.log()).sum()
            p_NM /= total_N1
            error_N1 = p_N1 / total_N1 - 1.0
            p_NM = p_NM.to(low)
            grad_query[chunk] = p_NM @ column + error_N1 * own
            grad_own[chunk] = error_N1 * query
            grad_column += p_NM.T @ query.to(low)
        factor = scale / len(query_ND)
        ctx.save_for_backward(grad_query * factor, grad_own * factor, grad_column * factor)
        return loss / len(query_ND)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return *(grad * one for one in ctx.saved_tensors), None, None, None, None


def full_softmax(query_ND: Tensor, title_TD: Tensor, target_N: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of each target row among all T titles, of vectors of norm 1 and a temperature of LOWEST_TEMPERATURE
    (config.py) at least: a sum of exponentials is a float, and no row's largest logit has to be found first."""
    return _Softmax.apply(query_ND, title_TD, target_N, temperature)


def corrected_softmax(
    query_ND: Tensor, own_ND: Tensor, own_title_N: Tensor, column_MD: Tensor, title_M: Tensor, expected_M: Tensor,
    temperature: float,
) -> Tensor:
    """Mean cross-entropy of each row's own title beside M sampled columns, an unbiased estimate of the softmax's
    denominator.

    The positive enters once, as itself; every other sampled title with one over the number of times that sampling was
    expected to bring it (logQ, Yi et al., 2019, section 3; the positive is not among what is sampled, Khrylchenko et
    al., 2025). Columns that repeat the row's own title are left out.
    """
    return _CorrectedSoftmax.apply(query_ND, own_ND, column_MD, own_title_N, title_M, expected_M.log(), temperature)


def sampled_softmax(
    query_ND: Tensor, own_ND: Tensor, own_title_N: Tensor, column_MD: Tensor, title_M: Tensor, in_batch: int,
    frequency_T: Tensor, temperature: float,
) -> Tensor:
    """Mean loss of N queries against columns of which the first `in_batch` are some of the batch's labels, and the others
    uniform titles (mixed negatives, Yang et al., 2020).

    Titles are rows of the T titles; `frequency_T` is each title's share of the labels. The batch's labels are draws from
    it; of the `in_batch` drawn from N, in_batch (N - 1) / N are expected to be another row's.
    """
    others, uniform = in_batch * (len(query_ND) - 1) / len(query_ND), len(column_MD) - in_batch
    expected_M = others * frequency_T[title_M] + uniform / len(frequency_T)
    return corrected_softmax(query_ND, own_ND, own_title_N, column_MD, title_M, expected_M, temperature)
