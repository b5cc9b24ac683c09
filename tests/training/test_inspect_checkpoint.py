"""What `postmean inspect` shows of a checkpoint is what diffusers finds in it."""

import json
import pickle
from pathlib import Path

from postmean.cli.main import run as postmean
from postmean.contract.process import VPProcess
from postmean.training.checkpoint import AveragedDenoiser, DenoiserCard, save_checkpoint
from postmean.training.model.preconditionings import EDMPreconditioning
from tests.support.runs import assert_one_line
from tests.support.small_training import CONFIG


def test_a_checkpoint_has_the_weights_that_diffusers_counts(tmp_path: Path, capsys) -> None:
    from diffusers.models.unets.unet_2d import UNet2DModel  # here, because it takes seconds

    card = DenoiserCard(
        preconditioning=EDMPreconditioning(),
        time_conditioning=EDMPreconditioning.time_conditioning,
        consistency=False,
        process=VPProcess(),
        image_shape=(1, 8, 8),
        classes=0,
        images_seen=48,
    )
    network = CONFIG.network.build((1, 8, 8), 0)
    tensors = {"raw": next(network.parameters()).detach()}
    averaged = AveragedDenoiser(network=network, settings=CONFIG.network, card=card)
    save_checkpoint(tmp_path / "model", averaged, tensors, {"step": 6, "next_tuple": 48}, keep=2)
    assert postmean("inspect", [str(tmp_path / "model"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    checkpoint = tmp_path / "model/checkpoints/00000006"
    unet = UNet2DModel.from_pretrained(checkpoint / "unet", use_safetensors=True, low_cpu_mem_usage=False)
    assert (found["step"], found["next_tuple"], found["checkpoints"]) == (6, 48, ["00000006"])
    assert found["card"]["process"]["kind"] == "vp"
    assert found["weights"] == sum(p.numel() for p in unet.parameters())
    assert found["card"]["images_seen"] == 48
    weights = checkpoint / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(pickle.dumps("never loaded"))
    assert postmean("inspect", [str(checkpoint)]) == 2
    assert_one_line(capsys.readouterr().err, "damaged, its SHA-256 is not that in files.json")
