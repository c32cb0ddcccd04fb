"""Softmax over the catalogue: whole, or sampled with its correction.

Shape suffixes: N labels, T titles, D width, M sampled columns.
"""

import torch
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 1_000_000, "cuda": 64_000_000}
"""Logits held at once: on a CPU few enough to stay in cache (a fifth faster than 16 million)."""


class _Softmax(torch.autograd.Function):
    """Mean cross-entropy in chunks of rows, with the gradients made in the same pass: logits are never kept."""

    @staticmethod
    def forward(ctx, query_ND, column_MD, own_N, temperature, log_expected_M, title_M):
        scale = 1.0 / temperature
        grad_query, grad_column = torch.empty_like(query_ND), torch.zeros_like(column_MD)
        loss = query_ND.new_zeros(())
        rows = max(CHUNK_ELEMENTS[query_ND.device.type] // len(column_MD), 1)
        for start in range(0, len(query_ND), rows):
            query, own = query_ND[start : start + rows], own_N[start : start + rows, None]
            logits = (query * scale) @ column_MD.T
            if title_M is not None:
                positive = logits.gather(1, own)
                logits -= log_expected_M
                logits.masked_fill_(title_M == title_M[own], float("-inf")).scatter_(1, own, positive)
            log_p = torch.log_softmax(logits, dim=1)
            loss -= log_p.gather(1, own).sum()
            error = log_p.exp_()
            error.scatter_(1, own, error.gather(1, own) - 1.0)
            grad_query[start : start + rows] = error @ column_MD
            grad_column += error.T @ query
        factor = scale / len(query_ND)
        ctx.save_for_backward(grad_query * factor, grad_column * factor)
        return loss / len(query_ND)

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad_query, grad_column = ctx.saved_tensors
        return grad * grad_query, grad * grad_column, None, None, None, None


def full_softmax(query_ND: Tensor, title_TD: Tensor, target_N: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of each target row among all T titles."""
    return _Softmax.apply(query_ND, title_TD, target_N, temperature, None, None)


def corrected_softmax(
    query_ND: Tensor, column_MD: Tensor, own_N: Tensor, title_M: Tensor, expected_M: Tensor, temperature: float
) -> Tensor:
    """Mean cross-entropy of column `own_N` among M sampled columns, an unbiased estimate of the softmax's denominator.

    The positive enters once, as itself; every other sampled title with one over the number of times that sampling was
    expected to bring it (logQ, Yi et al., 2019, section 3; the positive is not among what is sampled, Khrylchenko et
    al., 2025). Columns that repeat the row's own title are left out.
    """
    return _Softmax.apply(query_ND, column_MD, own_N, temperature, expected_M.log(), title_M)


def sampled_softmax(
    query_ND: Tensor, column_MD: Tensor, title_M: Tensor, frequency_T: Tensor, temperature: float
) -> Tensor:
    """Mean loss of N queries against each other's targets, the first N columns, and M - N uniform titles, the others
    (mixed negatives, Yang et al., 2020).

    `title_M` are rows of the T titles; `frequency_T` is each title's share of the labels, and the batch's other N - 1
    labels are draws from it.
    """
    labels, uniform = len(query_ND), len(column_MD) - len(query_ND)
    expected_M = (labels - 1) * frequency_T[title_M] + uniform / len(frequency_T)
    own_N = torch.arange(labels, device=query_ND.device)
    return corrected_softmax(query_ND, column_MD, own_N, title_M, expected_M, temperature)
