"""Settings and manifests from values by flag name."""

from pathlib import Path
from typing import Any

from postmean.base.flags import with_flags
from postmean.base.json_files import parse_json, to_sealed_json, unsealed
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import SCHEMA_VERSION, Manifest, code_version
from postmean.contract.recipe import TargetRecipe
from postmean.contract.settings import EstimatorSettings, ShardSettings
from postmean.runs.config import GenerateConfig
from postmean.storage.storage import Storage


def generate_config(store: ImageStore | Path, out: object, **flags: Any) -> GenerateConfig:
    """Settings of a generation from this store."""
    path = store.path if isinstance(store, ImageStore) else store
    return with_flags(GenerateConfig(store=path, out=str(out), tuples=1), **flags)


def manifest(**flags: Any) -> Manifest:
    """A manifest of an imagined run of `exact`."""
    plain = Manifest(
        schema_version=SCHEMA_VERSION,
        code_version=code_version(),
        store_fingerprint="a" * 64,
        store_shape=(50, 3, 4, 5),
        classes=10,
        recipe=TargetRecipe(),
        seed=0,
        tuples=10**12,
        estimator=EstimatorSettings(name="exact", certificate=False),
        shards=ShardSettings(records_per_shard=24, max_support=6),
        device="cpu",
        threads_per_actor=1,
        queries_per_pass=512,
        tuple_fingerprint="0" * 16,
    )
    return with_flags(plain, **flags)


def edit_manifest(storage: Storage, **changes: Any) -> None:
    """Edit fields of a run's manifest.json so well that its seal is right again: what a hostile file can do."""
    plain = unsealed(parse_json(storage.get("manifest.json")))
    storage.put("manifest.json", to_sealed_json(plain | changes))
