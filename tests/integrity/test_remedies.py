"""The remedy in the message about a damaged file works when it is followed: afterwards all is as it was."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from postmean.base.errors import DataError, PostmeanError, ShardError
from postmean.base.json_files import parse_json, to_sealed_json, unsealed
from postmean.cli.main import run as postmean
from postmean.contract.plan import Plan
from postmean.shards.run_folder import RunFolder
from postmean.storage.open import open_storage
from tests.integrity.conftest import GENERATE, TRAINING, import_store
from tests.support import readings
from tests.support.runs import assert_one_line, files_of
from tests.support.runs import postmean as postmean_process
from tests.support.small_training import train


@pytest.fixture
def world(whole: Path, tmp_path: Path) -> Path:
    """A copy of the world, at the same place in every message."""
    shutil.copytree(whole, tmp_path / "world")
    return tmp_path / "world"


def change(file: Path, place: float = 0.6) -> None:
    """Flip one bit of a file, that far from its start."""
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 4
    file.write_bytes(data)


def zero_images(root: Path) -> None:
    data = (root / "store/images.npy").read_bytes()
    (root / "store/images.npy").write_bytes(data[:1000] + bytes(2000) + data[3000:])


def swap_labels(root: Path) -> None:
    labels = np.load(root / "store/labels.npy")
    labels[[3, 40]] = labels[[40, 3]]
    np.save(root / "store/labels.npy", labels)


def huge_label(root: Path) -> None:
    labels = np.load(root / "store/labels.npy")
    labels[3] = 123_456_789_012
    np.save(root / "store/labels.npy", labels)


@pytest.mark.parametrize(
    "damage",
    [zero_images, swap_labels, huge_label, lambda root: change(root / "store/header.json")],
    ids=["images", "labels", "huge label", "header"],
)
def test_a_damaged_store_is_refused_by_all_and_right_once_imported_again(
    world: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before, manifest = readings.targets(world, "tar"), files_of(world / "tar")
    damage(world)
    for read in (readings.neighbours, lambda root: readings.targets(root, "tar")):
        with pytest.raises(DataError) as error:
            read(world)
        assert f"remove {world / 'store'} and import again, then index again" in str(error.value)
    assert postmean("verify", [f"{world / 'tar'}", f"--store={world / 'store'}"]) in (2, 4)
    assert_one_line(capsys.readouterr().err, "import again")
    assert postmean("generate", [*GENERATE, f"--store={world / 'store'}", f"--out={world / 'new'}"]) == 2  # before Ray
    assert_one_line(capsys.readouterr().err, "import again")
    shutil.rmtree(world / "store")
    import_store(world)
    assert readings.targets(world, "tar") == before
    capsys.readouterr()
    assert postmean("generate", [*GENERATE, f"--store={world / 'store'}", f"--out={world / 'tar'}"]) == 0
    assert "finished already" in capsys.readouterr().out
    assert files_of(world / "tar") == manifest


INDEXES = ["self-join.npz", "self-join.json", "ivf8-sq8.faiss", "ivf8-sq8.json"]


@pytest.mark.parametrize(
    ("name", "is_gone"), [*((name, False) for name in INDEXES), ("self-join.json", True), ("ivf8-sq8.json", True)]
)
def test_a_damaged_index_is_refused_and_made_again_by_the_command_in_the_message(
    world: Path, name: str, is_gone: bool
) -> None:
    file = world / "store/index" / name
    read = readings.planned if name.startswith("self-join") else readings.neighbours
    before = read(world)
    if is_gone:
        file.unlink()
    else:
        change(file)
    with pytest.raises(DataError) as error:
        read(world)
    command = re.search("`postmean index (.*)`", str(error.value))
    assert command is not None
    assert postmean("index", command[1].split()) == 0
    assert read(world) == before


def without_last_rows(root: Path) -> Path:
    file = root / "tar/plan.parquet"
    plan = Plan.from_bytes(file.read_bytes(), "plan")
    file.write_bytes(Plan(plan.first_tuple[:-2], plan.last_tuple[:-2], plan.records[:-2]).to_bytes())
    return file


def larger_certificate(root: Path) -> Path:
    file = root / "tar/certified_sigma.npy"
    certified = np.load(file)
    certified[7] *= 2
    np.save(file, certified)
    return file


def changed_metadata(root: Path) -> Path:
    file = root / "zarr/targets.zarr/mean/zarr.json"
    file.write_text(file.read_text().replace("float16", "uint16"))
    return file


@pytest.mark.parametrize("damage", [without_last_rows, larger_certificate, changed_metadata])
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_damaged_plan_certificate_or_metadata_is_refused_and_made_again_once_removed(
    world: Path, whole: Path, damage: Callable[[Path], Path], is_gone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = damage(world)
    run = file.relative_to(world).parts[0]
    if is_gone:
        file.unlink()
    else:
        assert postmean("verify", [f"{world / run}", f"--store={world / 'store'}"]) == 2
        assert_one_line(capsys.readouterr().err, str(file), "remove it", "same `postmean generate` again")
    settings = [*GENERATE, f"--store={world / 'store'}", f"--out={world / run}", f"--format={format_of(run)}"]
    if damage is not changed_metadata:
        with pytest.raises(PostmeanError, match="same `postmean generate` again"):
            readings.targets(world, run)
    if damage is not changed_metadata and not is_gone:
        assert postmean("generate", settings) == 2
        assert_one_line(capsys.readouterr().err, str(file), "same `postmean generate` again")
    file.unlink(missing_ok=True)
    assert postmean("generate", settings) == 0
    assert files_of(world / run) == files_of(whole / run)


def format_of(run: str) -> str:
    return "zarr" if run == "zarr" else "webdataset"


def test_a_plan_made_again_after_another_index_is_refused(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "tar/certified_sigma.npy").unlink()
    assert postmean("index", [f"{world / 'store'}", "--nearest=3"]) == 0
    capsys.readouterr()
    assert postmean("generate", [*GENERATE, f"--store={world / 'store'}", f"--out={world / 'tar'}"]) == 2
    assert_one_line(capsys.readouterr().err, "certified_sigma.npy", "indexed with other settings since")


def test_a_manifest_with_more_tuples_is_refused(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = world / "tar/manifest.json"
    file.write_text(file.read_text().replace('"tuples": 600', '"tuples": 650'))
    for command in (["verify", world / "tar"], ["generate", *GENERATE, "--tuples=650", f"--out={world / 'tar'}"]):
        assert postmean(str(command[0]), [*map(str, command[1:]), f"--store={world / 'store'}"]) == 2
        assert_one_line(capsys.readouterr().err, "manifest.json", "generate again into another folder")
    with pytest.raises(PostmeanError, match="generate again into another folder"):
        readings.targets(world, "tar")


@pytest.mark.slow  # starts Ray
def test_damaged_shards_are_made_again_once_their_commit_records_are_removed(world: Path, whole: Path) -> None:
    change(world / "tar/shards/000001.tar")
    (world / "tar/shards/000002.tar").unlink()
    change(world / "tar/commits/000003.json", 0.3)
    run = RunFolder(open_storage(world / "tar"))
    for shard in (1, 2, 3):
        with pytest.raises(ShardError) as error:
            run.read_shard(shard)
        record = re.search("remove (.*) and run the same `postmean generate` again", str(error.value))
        assert record is not None
        Path(record[1]).unlink()
    made = postmean_process("generate", *GENERATE, f"--store={world / 'store'}", f"--out={world / 'tar'}", "--actors=1")
    assert made.returncode == 0
    assert files_of(world / "tar") == files_of(whole / "tar")


@pytest.mark.parametrize(
    ("name", "is_gone"),
    [
        ("state.safetensors", False),
        ("unet/diffusion_pytorch_model.safetensors", False),
        ("state.json", True),
        ("files.json", True),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_training_goes_on_from_the_one_before(
    world: Path, name: str, is_gone: bool
) -> None:
    before = readings.weights(world)
    file = world / "model/checkpoints/00000002" / name
    if is_gone:
        file.unlink()
    else:
        change(file)
    with pytest.raises(DataError, match="remove it: training then goes on from the one before"):
        readings.weights(world)
    shutil.rmtree(file.parents[len(Path(name).parts) - 1])
    train(TRAINING, world / "tar", world / "store", world / "model")
    assert readings.weights(world) == before


def test_a_checkpoint_of_another_step_is_refused(world: Path) -> None:
    checkpoints = world / "model/checkpoints"
    shutil.rmtree(checkpoints / "00000002")
    (checkpoints / "00000001").rename(checkpoints / "00000002")
    with pytest.raises(DataError, match="holds step 1"):
        readings.weights(world)


def test_a_damaged_account_of_deleted_shards_is_written_anew(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [
        *GENERATE,
        f"--store={world / 'store'}",
        f"--out={world / 'followed'}",
        "--delete-consumed",
        "--trainers=2",
    ]
    file = world / "followed/deleted.json"
    file.write_bytes(file.read_bytes().replace(b"1", b"3", 1))
    assert postmean("generate", settings) == 2
    assert_one_line(capsys.readouterr().err, "deleted.json: damaged: remove it", "same `postmean generate` again")
    file.unlink()
    assert postmean("generate", settings) == 0
    deleted = unsealed(parse_json(file.read_bytes()))["shards"]
    left = {path for path in files_of(world / "followed") if path.startswith("shards/")}
    assert left == {f"shards/{shard:06d}.tar" for shard in range(deleted, len(list((world / "tar/shards").iterdir())))}
    assert file.read_bytes() == to_sealed_json({"shards": deleted})
