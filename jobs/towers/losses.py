"""Softmax over the catalogue: whole, or sampled with its correction.

Shape suffixes: N labels, T titles, D width, M sampled columns.
"""

import torch
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 1_000_000, "cuda": 64_000_000}
"""Logits held at once: on a CPU few enough to stay in cache (a fifth faster than 16 million)."""


class _FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy in chunks of rows, with the gradients made in the same pass: logits are never kept."""

    @staticmethod
    def forward(ctx, query_ND: Tensor, title_TD: Tensor, target_N: Tensor, temperature: float) -> Tensor:
        scale = 1.0 / temperature
        grad_query, grad_title = torch.empty_like(query_ND), torch.zeros_like(title_TD)
        loss = query_ND.new_zeros(())
        rows = max(CHUNK_ELEMENTS[query_ND.device.type] // len(title_TD), 1)
        for start in range(0, len(query_ND), rows):
            query, target = query_ND[start : start + rows], target_N[start : start + rows, None]
            log_p = torch.log_softmax((query * scale) @ title_TD.T, dim=1)
            loss -= log_p.gather(1, target).sum()
            error = log_p.exp_()
            error.scatter_(1, target, error.gather(1, target) - 1.0)
            grad_query[start : start + rows] = error @ title_TD
            grad_title += error.T @ query
        factor = scale / len(query_ND)
        ctx.save_for_backward(grad_query * factor, grad_title * factor)
        return loss / len(query_ND)

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad_query, grad_title = ctx.saved_tensors
        return grad * grad_query, grad * grad_title, None, None


def full_softmax(query_ND: Tensor, title_TD: Tensor, target_N: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of each target row among all T titles."""
    return _FullSoftmax.apply(query_ND, title_TD, target_N, temperature)


def sampled_log_partition(
    positive_N: Tensor, score_NM: Tensor, target_N: Tensor, column_M: Tensor, expected_M: Tensor
) -> Tensor:
    """(N,) log of an unbiased estimate of the softmax's denominator.

    The positive enters once, as itself; every other sampled title with one over the number of times that sampling was
    expected to bring it (logQ, Yi et al., 2019, section 3; the positive is not among what is sampled, Khrylchenko et
    al., 2025). Columns that repeat the row's own target are left out.
    """
    corrected_NM = score_NM - expected_M.log()
    corrected_NM = corrected_NM.masked_fill(column_M[None] == target_N[:, None], float("-inf"))
    return torch.logsumexp(torch.cat([positive_N[:, None], corrected_NM], dim=1), dim=1)


def sampled_softmax(
    query_ND: Tensor, target_ND: Tensor, negative_UD: Tensor, target_N: Tensor, negative_U: Tensor,
    frequency_T: Tensor, temperature: float,
) -> Tensor:
    """Mean loss against the batch's other targets and U uniform titles (mixed negatives, Yang et al., 2020).

    `frequency_T` is each title's share of the labels; the batch's other N - 1 labels are draws from it.
    """
    column_M = torch.cat([target_N, negative_U])
    expected_T = (len(target_N) - 1) * frequency_T + len(negative_U) / len(frequency_T)
    score_NM = query_ND @ torch.cat([target_ND, negative_UD]).T / temperature
    positive_N = (query_ND * target_ND).sum(1) / temperature
    return (sampled_log_partition(positive_N, score_NM, target_N, column_M, expected_T[column_M]) - positive_N).mean()
