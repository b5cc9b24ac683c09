"""Elements of a large matrix above a threshold: their positions, their number per row, and their values."""

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
    """Number of true elements per row, int64, of a mask on a GPU."""
    return mask_BM.view(torch.int8).sum(1, dtype=torch.int32).cpu().numpy().astype(np.int64)


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


def few_above(
    value_BM: torch.Tensor, rows: np.ndarray, threshold: float | torch.Tensor, most: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find the rows with at most `most` elements above the threshold, and these elements as one list per such row.

    Args:
        value_BM: float32. rows: int64 [R], rows of it to look at.
        threshold: for all rows, or one for each of them, float32 [R] on their device.
    Returns:
        is_few, bool [R]; bounds, columns and values of the lists, as for `by_row`.
    """
    if value_BM.is_cuda:
        limit = threshold[:, None] if isinstance(threshold, torch.Tensor) else threshold
        above = rows_of(value_BM, rows) > limit
        is_few = count_true(above) <= most
        return is_few, *by_row(rows_of(above, np.flatnonzero(is_few)), value_BM, rows[is_few])
    # row by row, so that a row's mask stays in the cache; a new mask for each would take twice the time
    matrix = value_BM.numpy()
    mask = np.empty(matrix.shape[1], bool)
    limits = np.broadcast_to(np.asarray(threshold, np.float32), len(rows))
    is_few, columns, values = np.zeros(len(rows), bool), [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for place, (row, limit) in enumerate(zip(rows.tolist(), limits, strict=True)):
        np.greater(matrix[row], limit, out=mask)
        if np.count_nonzero(mask) <= most:
            is_few[place] = True
            columns.append(np.flatnonzero(mask))
            values.append(matrix[row, columns[-1]])
    bounds = np.cumsum([0, *map(len, columns[1:])])
    return is_few, bounds, np.concatenate(columns), np.concatenate(values)


def rows_of(matrix: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """These rows, rising; the matrix itself if they are all of them."""
    return matrix if len(rows) == len(matrix) else matrix[torch.from_numpy(rows).to(matrix.device)]
