"""`postmean inspect PATH`: what a store, run, shard, record or checkpoint holds."""

import os
from pathlib import Path
from typing import Any

from postmean.base.command_line import CommandLine
from postmean.base.errors import ConfigError
from postmean.base.output import Output
from postmean.base.paths import local_path
from postmean.base.progress import byte_size
from postmean.inspect.config import InspectConfig

COMMAND = CommandLine(
    name="inspect",
    settings=InspectConfig,
    summary="Show what is there: an image store, a run, a shard (--shard N), a record (--record N), a checkpoint.",
    main="path shard record store neighbours picture save",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    config, output = COMMAND.parse(argv)
    if "://" in config.path:
        from postmean.contract.remote_store import is_store

        return _store(config, output) if is_store(config.path) else _run(config, output)
    path = local_path(config.path)
    if (path / "images.npy").exists():
        return _store(config, output)
    if (path / "denoiser.json").exists() or (path / "checkpoints").is_dir():
        return _checkpoint(config, output)
    if (path / "manifest.json").exists() or path.suffix == ".tar":
        return _run(config, output)
    raise ConfigError(f"{path}: no store, run, shard or checkpoint: pass the folder of one, or a run's .tar file")


def _store(config: InspectConfig, output: Output) -> int:
    from postmean.contract.image_store import ImageStore
    from postmean.inspect.store import draw_store, inspect_store

    _has_no_records(config, "an image store")
    store = ImageStore.open(config.path, output.progress)
    view = inspect_store(store)
    channels, height, width = view.shape
    counts = sorted(view.class_counts.items(), key=lambda pair: -pair[1])
    classes = ", ".join(f"{name} {count:,}" for name, count in counts[:8]) + (", ..." if counts[8:] else "")
    rows = {
        "images": f"{view.images:,} of {channels}x{height}x{width}, {byte_size(view.bytes)}",
        "classes": f"{len(counts):,}: {classes}" if counts else "none",
        "source": ", ".join(f"{name} {_said(value)}" for name, value in view.source.items() if _said(value)),
        "indexes": ", ".join(view.indexes) or "none: make one with `postmean index`",
        "fingerprint": view.fingerprint,
    }
    _draw(config, rows, lambda path: draw_store(store, path))
    output.report(view, _table(f"{view.path}: image store", rows))
    return 0


def _run(config: InspectConfig, output: Output) -> int:
    from postmean.shards.run_folder import RunFolder
    from postmean.storage.open import open_storage

    path, shard = config.path, config.shard
    if path.endswith(".tar"):
        path, shard = os.path.dirname(os.path.dirname(os.path.abspath(path))), _number(path)
    run = RunFolder(open_storage(path))
    if config.record is not None:
        return _record(config, output, run)
    if shard is not None:
        return _shard(config, output, run, shard)
    from postmean.inspect.run import inspect_run

    view = inspect_run(run)
    manifest = view.manifest
    recipe, estimator = manifest["recipe"], manifest["estimator"]
    rows = {
        "made by": f"postmean {manifest['code_version']} on {manifest['device']}, seed {manifest['seed']}",
        "targets": f"process {_part(recipe['process'])}; noise {_part(recipe['noise'])}; solver {recipe['solver']}",
        "population": f"{manifest['store_shape'][0]:,} images of {'x'.join(map(str, manifest['store_shape'][1:]))}"
        + f"{', flips' * recipe['flips']}{', by class' * recipe['conditional']}",
        "estimator": f"{estimator['name']}, tolerance {estimator['tolerance']:g}"
        + ("" if estimator["certificate"] else ", no certificate"),
        "tuples": f"{manifest['tuples']:,}",
        "records": f"{view.records:,} in {view.shards:,} shards, {view.committed:,} of them committed",
        "format": manifest["shards"]["format"] + ", self-contained" * manifest["shards"]["self_contained"],
        "store": manifest["store_fingerprint"],
    }
    _draw(config, rows, None)
    output.report(view, _table(f"{view.path}: run", rows))
    return 0


def _shard(config: InspectConfig, output: Output, run: Any, shard: int) -> int:
    from postmean.inspect.run import inspect_shard

    view = inspect_shard(run, shard)
    last = view.first_record + view.records - 1
    rows = {
        "records": f"{view.records:,}: {view.first_record:,}..{last:,}, {view.sparse:,} of them sparse",
        "tuples": f"{view.first_tuple:,}..{view.last_tuple:,}",
        "files": ", ".join(f"{name} {byte_size(size)}" for name, size in view.files.items()),
        "": "".join(f"{name:>11}" for name in ("least", "5 %", "median", "95 %", "largest")),
    }
    rows |= {name: "".join(f"{value:>11.4g}" for value in values) for name, values in view.quantiles.items()}
    _draw(config, rows, None)
    output.report(view, _table(f"{view.path}: shard {view.shard:06d}", rows))
    return 0


def _record(config: InspectConfig, output: Output, run: Any) -> int:
    from postmean.contract.image_store import ImageStore
    from postmean.inspect.record import draw_record, inspect_record, save_record

    assert config.record is not None
    path = config.store
    if path is None:
        path = run.named_store()
        if path is None:
            raise ConfigError(f"{run.url}: it does not say where its image store is: pass --store")
        if "://" not in path and not local_path(path).is_dir():
            raise ConfigError(f"{run.url}: made from the image store {path}, which is not there: pass --store")
    store = ImageStore.open(path, output.progress)
    view = inspect_record(run, store, config.record, config.neighbours)
    follows = "" if view.sigma_next is None else f", sigma_next {view.sigma_next:.4g}"
    rows = {
        "tuple": f"{view.tuple_id:,}, in shard {view.shard:06d}; sigma {view.sigma:.4g}{follows}",
        "x": _named(view.source) + f", at {view.mse_of_source:.3g} mean squared error from the mean",
        "mean": f"{view.stored}; ESS {view.ess:.4g}, variance {view.variance:.3g} a dimension, "
        f"tail mass {view.tail_mass:.2g}, {view.support_size:,} images in the estimate",
        "heaviest": "",
    }
    for number, each in enumerate(view.neighbours, start=1):
        rows[f"  {number}"] = f"{each.weight:.6f}  {_named(each)}"
    _draw(config, rows, lambda path: draw_record(view, store, path))
    if config.save is not None:
        save_record(view, config.save)
        rows["arrays"] = str(config.save)
    plain = {name: value for name, value in vars(view).items() if name != "arrays"}
    plain |= {"source": vars(view.source), "neighbours": [vars(each) for each in view.neighbours]}
    output.report(plain, _table(f"{view.path}: record {view.record:,}", rows))
    return 0


def _checkpoint(config: InspectConfig, output: Output) -> int:
    from postmean.inspect.checkpoint import inspect_checkpoint

    _has_no_records(config, "a checkpoint")
    view = inspect_checkpoint(local_path(config.path))
    card = view.card
    kind = "consistency function" if card["consistency"] else "denoiser"
    rows = {
        "training": f"step {view.step:,}, {card['images_seen']:,} images seen, next tuple {view.next_tuple:,}",
        "network": f"{view.weights:,} averaged weights in {view.tensors:,} tensors, "
        f"{kind} of {'x'.join(map(str, card['image_shape']))}, {card['classes'] or 'no'} classes",
        "use": f"preconditioning {_part(card['preconditioning'])}; process {_part(card['process'])}",
        "diffusers": view.diffusers,
        "files": ", ".join(f"{name} {byte_size(size)}" for name, size in view.files.items()),
    }
    if view.checkpoints:
        rows["checkpoints"] = ", ".join(view.checkpoints)
    _draw(config, rows, None)
    output.report(view, _table(f"{view.path}: checkpoint", rows))
    return 0


def _draw(config: InspectConfig, rows: dict[str, str], draw: Any) -> None:
    if config.picture is None:
        return
    if draw is None:
        raise ConfigError("--picture: there is a picture of a store, and of a record (--record N)")
    draw(config.picture)
    rows["picture"] = str(config.picture)


def _has_no_records(config: InspectConfig, kind: str) -> None:
    if config.shard is not None or config.record is not None:
        raise ConfigError(f"--shard, --record: they are for a run, {config.path} is {kind}")


def _said(value: Any) -> str:
    """A setting of the import in words; empty for none."""
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)


def _number(path: str) -> int:
    try:
        return int(Path(path).stem)
    except ValueError:
        raise ConfigError(f"{path}: not the name of a shard, such as shards/000003.tar") from None


def _named(each: Any) -> str:
    label = "" if each.label is None else f", class {each.label}"
    return f"image {each.image:,}{' flipped' * each.flipped}{label}"


def _part(plain: dict[str, Any]) -> str:
    values = [f"{name} {value}" for name, value in plain.items() if name != "kind"]
    return " ".join([plain["kind"], *values])


def _table(title: str, rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join([title, *(f"  {name:<{width}}  {value}".rstrip() for name, value in rows.items())])
