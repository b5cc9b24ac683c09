"""True elements of a large mask: their positions, their number per row, and values there."""

import numpy as np
import torch


def positions(mask_BM: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the true elements, ordered by row then column, int64 each.

    On a CPU, numpy finds few among many in a sixth of torch's time.
    """
    if mask_BM.is_cuda:
        row, column = mask_BM.nonzero().t().cpu().numpy()
        return row, column
    row, column = np.divmod(np.flatnonzero(mask_BM.contiguous().numpy()), mask_BM.shape[1])
    return row, column


def count_true(mask_BM: torch.Tensor) -> np.ndarray:
    """Number of true elements per row, int64. On a CPU, numpy counts them in a tenth of torch's time."""
    if mask_BM.is_cuda:
        return mask_BM.view(torch.int8).sum(1, dtype=torch.int32).cpu().numpy().astype(np.int64)
    return np.array([np.count_nonzero(row) for row in mask_BM.numpy()], np.int64)


def by_row(
    mask_BM: torch.Tensor, value: torch.Tensor, rows: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The true elements as one list per row.

    Args:
        value: read at these elements, [at least B, M].
        rows: row of `value` for each row of the mask, int64 [B]; default the same.
    Returns:
        bounds, int64 [B + 1]: list r is bounds[r] .. bounds[r + 1] - 1 of the others; columns, int64 [P]; values [P].
    """
    row, column = positions(mask_BM)
    bounds = np.searchsorted(row, np.arange(len(mask_BM) + 1))
    of_value = torch.from_numpy(row if rows is None else rows[row]).to(value.device)
    return bounds, column, value[of_value, torch.from_numpy(column).to(value.device)].cpu().numpy()
