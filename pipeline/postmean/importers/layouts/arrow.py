"""Arrow files of `datasets.save_to_disk`: data-00000-of-00001.arrow and state.json, in one folder or one a split."""

import posixpath
from collections.abc import Iterator

import pyarrow as pa

from postmean.base.errors import DataError
from postmean.importers.files.json_file import read_source_json
from postmean.importers.files.source import Source
from postmean.importers.layouts.tables import ROWS, Tables, damaged, images_column_in


class Arrow(Tables):
    """Rows of Arrow streams; see `Tables`. Those that state.json does not name, such as caches, are left out."""

    kind = "arrow"
    title = "Arrow files of datasets.save_to_disk"

    @staticmethod
    def found_in(source: Source) -> bool:
        """Whether the first Arrow file has a column of images."""
        tables = Arrow._tables(source)
        return bool(tables) and images_column_in(_open(source, tables[0]).schema)

    @staticmethod
    def _tables(source: Source) -> list[str]:
        tables = [name for name in source.names if name.endswith(".arrow")]
        for state in source.bases.get("state.json", []):
            plain = read_source_json(source, state, "the state of a data set")
            if plain.get("_indices_data_files") or plain.get("_indices_files"):
                raise DataError(
                    f"{source.place(state)}: rows in another order than saved: call flatten_indices() and save"
                )
            folder = posixpath.dirname(state)
            named = plain.get("_data_files")
            if isinstance(named, list):
                listed = {posixpath.join(folder, str(f.get("filename"))) for f in named if isinstance(f, dict)}
                tables = [name for name in tables if posixpath.dirname(name) != folder or name in listed]
        return tables

    def _schema(self, name: str) -> pa.Schema:
        return _open(self._source, name).schema

    def _rows(self, name: str) -> int:
        return sum(len(part) for part in self._column(name, self._image or ""))

    def _batches(self, name: str, column: str) -> Iterator[pa.Array]:
        for batch in _open(self._source, name):
            part = batch.column(column)
            for start in range(0, len(part), ROWS):
                yield part.slice(start, ROWS)


def _open(source: Source, name: str) -> pa.RecordBatchStreamReader:
    path = source.local_path(name)
    try:
        # a map of memory reads of each batch only what is asked for
        file = pa.PythonFile(source.open(name)) if path is None else pa.memory_map(str(path))
        return pa.ipc.open_stream(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(source, name, error) from error
