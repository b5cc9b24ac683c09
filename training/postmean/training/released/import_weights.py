"""`import_weights`: a released network becomes a checkpoint of ours."""

from dataclasses import dataclass

from postmean.base.errors import ConfigError, DataError
from postmean.base.files import move_into_place, temporary_folder
from postmean.base.json_files import to_json
from postmean.base.paths import local_path, out_folder
from postmean.contract.process import EDMProcess
from postmean.training.checkpoint import DenoiserCard
from postmean.training.checkpoint_files import write_hashes
from postmean.training.model.preconditionings import EDMPreconditioning
from postmean.training.network_files import write_network
from postmean.training.released.config import ImportWeightsConfig
from postmean.training.released.networks import ReleasedNetwork
from postmean.training.released.snapshot_pickle import read_snapshot


@dataclass(frozen=True, kw_only=True)
class ImportWeightsReport:
    """What was imported."""

    checkpoint: str
    network: str
    """Kind of the network, such as ddpm++."""
    parameters: int
    image_shape: tuple[int, int, int]
    """C, H, W."""
    classes: int
    """0 for an unconditional network."""


def import_weights(config: ImportWeightsConfig) -> ImportWeightsReport:
    """Write the averaged weights of a snapshot of EDM or EDM2 as a checkpoint. No code in the snapshot is run.

    Raises:
        DataError: it is no such snapshot, or damaged.
        ConfigError: there is something at `config.out`, or it cannot be written.
    """
    out, file = out_folder(config.out, "a checkpoint"), local_path(config.file)
    if out.exists():
        raise ConfigError(f"{out}: exists already: pass another --out")
    snapshot = read_snapshot(file)
    try:
        released = ReleasedNetwork.of(snapshot)
        network = released.build()
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    preconditioning = EDMPreconditioning(sigma_data=released.sigma_data)
    card = DenoiserCard(
        preconditioning=preconditioning,
        time_conditioning=preconditioning.time_conditioning,
        consistency=False,
        process=EDMProcess(),
        image_shape=released.image_shape,
        classes=released.classes,
        images_seen=0,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(out) as temporary:
            write_network(temporary, network, released.settings)
            (temporary / "denoiser.json").write_bytes(to_json(card))
            (temporary / "state.json").write_bytes(to_json({"step": 0, "next_tuple": 0}))
            write_hashes(temporary)
            move_into_place(temporary, out)
    except OSError as error:
        raise ConfigError(f"{out}: cannot write: {error.strerror}: make room or pass another --out") from error
    return ImportWeightsReport(
        checkpoint=str(out),
        network=released.settings.kind,
        parameters=sum(p.numel() for p in network.parameters()),
        image_shape=released.image_shape,
        classes=released.classes,
    )
