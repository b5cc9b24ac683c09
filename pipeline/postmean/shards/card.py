"""What a run is, for readers without postmean: the attributes of its Zarr groups, and its data-set card.

OUT/README.md is a card as the Hugging Face hub has them: its YAML names the data files, so `datasets.load_dataset(OUT)`
finds them. People may edit it: no hash of it is kept, and extending a run leaves it as it is.
"""

import json
from typing import Any

from postmean.base.serialise import to_dict
from postmean.contract.manifest import Manifest

CARD = "README.md"


def attributes(manifest: Manifest) -> dict[str, Any]:
    """A plain JSON object of what no extension of the run changes."""
    recipe = to_dict(manifest.recipe)
    return {
        "schema_version": manifest.schema_version,
        "process": recipe["process"],
        "noise": recipe["noise"],
        "solver": manifest.recipe.solver,
        "flips": manifest.recipe.flips,
        "conditional": manifest.recipe.conditional,
        "estimator": manifest.estimator.name,
        "tolerance": manifest.estimator.tolerance,
        "seed": manifest.seed,
        "store": {
            "fingerprint": manifest.store_fingerprint,
            "shape": list(manifest.store_shape),
            "classes": manifest.classes,
        },
    }


def run_card(manifest: Manifest) -> bytes:
    """The file README.md of a run."""
    webdataset = manifest.shards.format == "webdataset"
    files = {"default": "shards/*.tar"} if webdataset else {}
    rows = "a record" if manifest.shards.self_contained else "a block of up to 256 records, one array a column"
    body = [
        f"A sample is {rows}." if webdataset else "The records are in the Zarr groups `targets*.zarr`.",
        "`postmean export` writes a table with one row a record.",
        "",
        "| file | what |",
        "|---|---|",
        f"| `{'shards/*.tar' if webdataset else 'targets*.zarr'}` | the records: ids, noise levels, means, quality |",
        "| `plan.parquet` | which tuples are in which shard |",
        "| `manifest.json` | the identity of the run |",
        "| `commits/*.json` | sizes and SHA-256; a shard without its commit record does not exist |",
    ]
    return card(manifest, files | {"plan": "plan.parquet"}, body)


def card(manifest: Manifest, data_files: dict[str, str], body: list[str]) -> bytes:
    """A card in Markdown with YAML.

    Args:
        data_files: name of each configuration -> pattern of its files; `load_dataset` takes the first by default.
        body: lines of what is in the files.
    """
    lines = ["---", "pretty_name: Posterior-mean targets", "tags:", "- diffusion", "- posterior-mean", "configs:"]
    for number, (name, pattern) in enumerate(data_files.items()):
        lines += [f"- config_name: {name}", "  data_files:", "  - split: train", f"    path: {pattern}"]
        lines += ["  default: true"] if number == 0 else []
    about = json.dumps(attributes(manifest), indent=1)
    return "\n".join(
        [
            *lines,
            "---",
            "",
            "# Posterior-mean targets",
            "",
            "Posterior means E[x | z, sigma] of noisy images z = x + sigma eps, made by `postmean generate`.",
            f"The format is schema version {manifest.schema_version} of postmean's record format.",
            "",
            *body,
            "",
            "```json",
            about,
            "```",
            "",
        ]
    ).encode()
