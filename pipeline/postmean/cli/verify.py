"""`postmean verify OUT --store STORE`: hashes of all shards, and a sample recomputed exactly in float64."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from postmean.base.command_line import parse, print_report
from postmean.base.errors import ConfigError, VerificationError
from postmean.base.progress import Progress


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """What to verify."""

    out: Annotated[str, tyro.conf.Positional]
    """Folder of the run."""
    store: Path
    """Image store that the run was generated from."""
    sample: int = 128
    """Records, and as many certified tuples, to recompute."""
    json: bool = False
    """Print the report as JSON."""

    def __post_init__(self) -> None:
        if self.sample < 0:
            raise ConfigError(f"--sample: expected 0 or more, got {self.sample}")


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config = parse(VerifyConfig, argv, "verify", "Re-hash every shard and recompute a sample exactly in float64.")
    from postmean.contract.image_store import ImageStore
    from postmean.runs.commits import committed_shards
    from postmean.runs.verify import judge, verify
    from postmean.shards.run_folder import RunFolder
    from postmean.storage.open import open_storage

    folder = RunFolder(open_storage(config.out))
    manifest = folder.read_manifest()
    store = ImageStore.open(config.store)
    with Progress("verify", len(committed_shards(folder)), "shards") as progress:
        report = verify(folder, store, config.sample, progress.update)
    problems = judge(report, manifest)
    lines = [
        f"{report.out}: {report.committed} of {report.shards} shards, {report.records:,} records, "
        f"estimator {manifest.estimator.name}; mean squared error a dimension against float64:",
        f"  {'':<10} {'sigma':>12} {'tuples':>7} {'mse':>9} {'worst':>9}",
    ]
    for row in report.rows:
        span = f"{row.sigma_from:g}..{row.sigma_to:g}"
        lines.append(f"  {row.kind:<10} {span:>12} {row.count:>7} {row.mse:>9.1e} {row.worst:>9.1e}")
    if report.deleted:
        lines.append(f"  {report.deleted} shards were deleted when all trainers had consumed them: not checked")
    lines.append("all is well" if not problems else f"{len(problems)} problems")
    print_report(asdict(report) | {"problems": problems}, "\n".join(lines), config.json)
    if problems:
        raise VerificationError("; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if problems[5:] else ""))
    return 0
