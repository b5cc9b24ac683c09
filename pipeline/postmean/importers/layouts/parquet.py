"""Parquet files with a column of images, as the Hugging Face hub has them: data/train-00000-of-00001.parquet."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from postmean.importers.files.source import Source
from postmean.importers.layouts.tables import ROWS, Tables, damaged, images_column_in


class Parquet(Tables):
    """Rows of Parquet files; see `Tables`."""

    kind = "parquet"
    title = "Parquet files with a column of images"

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the first Parquet file has a column of images."""
        tables = Parquet._tables(source)
        return bool(tables) and images_column_in(_open(source, tables[0]).schema_arrow)

    @staticmethod
    def _tables(source: Source) -> list[str]:
        return [name for name in source.names if name.lower().endswith(".parquet")]

    def _schema(self, name: str) -> pa.Schema:
        return _open(self._source, name).schema_arrow

    def _rows(self, name: str) -> int:
        return _open(self._source, name).metadata.num_rows

    def _batches(self, name: str, column: str) -> Iterator[pa.Array]:
        # without threads: Arrow's own may still run when a short command ends
        for batch in _open(self._source, name).iter_batches(ROWS, columns=[column], use_threads=False):
            yield batch.column(0)


def _open(source: Source, name: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source.open(name))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(source, name, error) from error
