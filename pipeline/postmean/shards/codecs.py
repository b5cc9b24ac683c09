"""The codecs by name."""

from postmean.base.errors import ConfigError
from postmean.shards.codec import ShardCodec


def codec(name: str) -> ShardCodec:
    """The codec of a manifest's `format`, imported on demand; ConfigError if there is none of this name."""
    if name == "webdataset":
        from postmean.shards.webdataset_codec import WebDatasetCodec

        return WebDatasetCodec()
    if name == "zarr":
        from postmean.shards.zarr_codec import ZarrCodec

        return ZarrCodec()
    raise ConfigError(f"format: expected webdataset or zarr, got {name!r}")
