"""The manifest: to JSON and back, and what it refuses."""

import json
from dataclasses import replace
from typing import Any

import pytest

from postmean.base.errors import ConfigError, MismatchError, ShardError
from postmean.base.flags import with_flags
from postmean.contract.manifest import Manifest
from postmean.contract.noise import ECTNoise
from postmean.contract.presets import PRESETS
from postmean.contract.process import TableProcess
from postmean.contract.settings import EstimatorSettings
from tests.support.settings import manifest as imagined


def manifest_of(name: str = "ict-cifar10") -> Manifest:
    preset = PRESETS[name]
    manifest = imagined(
        code_version="0",
        store_fingerprint="ab" * 32,
        recipe=preset.recipe,
        seed=3,
        tuples=preset.tuples,
        estimator=EstimatorSettings(name="knn-snis", k=2048, n=256, m=256, index="ivf8-sq8", nprobe=4),
        format="zarr",
        records_per_shard=512,
        max_support=256,
        threads_per_actor=2,
        queries_per_pass=512,
    )
    return replace(manifest, tuple_fingerprint=manifest.tuple_source().fingerprint())


@pytest.mark.parametrize("name", PRESETS)
def test_manifest_of_each_preset_is_the_same_after_json(name):
    manifest = manifest_of(name)
    again = Manifest.from_dict(json.loads(json.dumps(manifest.to_dict())), "manifest.json")
    assert again == manifest
    assert again.to_dict() == manifest.to_dict()
    again.check_same(manifest, "here")
    again.check_tuples("here")
    assert again.tuple_source() == manifest.tuple_source()


def test_table_process_is_the_same_after_json():
    table = TableProcess(t_knots=(0.0, 1.0), s_knots=(1.0, 0.5), sigma_knots=(0.01, 50.0))
    manifest = with_flags(manifest_of(), process=table)
    assert Manifest.from_dict(json.loads(json.dumps(manifest.to_dict())), "m") == manifest


def test_whole_numbers_of_a_python_caller_are_the_floats_they_stand_for():
    """Else a run's fingerprint, made before it is written, would not be that of the manifest read back."""
    table = TableProcess(t_knots=(0, 1), s_knots=(1, 0.5), sigma_knots=(0.01, 50))
    manifest = with_flags(manifest_of("ect-cifar10"), process=table, noise=ECTNoise(q=256, k=8), solver="euler")
    again = Manifest.from_dict(json.loads(json.dumps(manifest.to_dict())), "m")
    assert again == manifest and again.fingerprint == manifest.fingerprint


def test_unknown_missing_and_impossible_fields_are_refused_by_name():
    plain = manifest_of().to_dict()
    for field in plain:
        if field not in ("schema_version", "segments"):  # may be missing in a run that was never extended
            with pytest.raises(ShardError, match=field):
                Manifest.from_dict({k: v for k, v in plain.items() if k != field}, "manifest.json")
    for group in ("recipe", "estimator", "shards"):
        with pytest.raises(ShardError, match="extra"):
            Manifest.from_dict(plain | {group: plain[group] | {"extra": 1}}, "manifest.json")
    with pytest.raises(ShardError, match="extra"):
        Manifest.from_dict(changed(plain, "noise", plain["recipe"]["noise"] | {"extra": 1}), "manifest.json")
    with pytest.raises(ShardError, match="extra"):
        Manifest.from_dict(plain | {"extra": 1}, "manifest.json")
    with pytest.raises(ShardError, match="'cosine' is not one of"):
        Manifest.from_dict(changed(plain, "noise", {"kind": "cosine"}), "manifest.json")
    with pytest.raises(ShardError, match="P_std"):
        Manifest.from_dict(changed(plain, "noise", plain["recipe"]["noise"] | {"P_std": -1.0}), "manifest.json")


def changed(plain: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    """The plain manifest with this field changed, in the group that has it."""
    for group in ("recipe", "estimator", "shards"):
        if field in plain[group]:
            return plain | {group: plain[group] | {field: value}}
    assert field in plain
    return plain | {field: value}


@pytest.mark.parametrize("plain", [None, [], 3, "x", {}, {"schema_version": 0}, {"schema_version": "1"}])
def test_what_is_no_manifest_is_refused(plain):
    with pytest.raises(ShardError, match="schema_version"):
        Manifest.from_dict(plain, "manifest.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", "3"),
        ("seed", 3.5),
        ("seed", True),
        ("tuples", None),
        ("flips", 1),
        ("tolerance", "1e-6"),
        ("format", "tar"),
        ("solver", "rk4"),
        ("device", 0),
        ("store_shape", [50, 3, 4]),
        ("store_shape", [50, 3, 4, "5"]),
        ("store_shape", 50),
        ("process", None),
        ("process", []),
        ("estimator", "exact"),
        ("store_fingerprint", 7),
    ],
)
def test_values_of_another_type_are_refused_by_name(field, value):
    with pytest.raises(ShardError, match=field):
        Manifest.from_dict(changed(manifest_of().to_dict(), field, value), "manifest.json")


def test_whole_numbers_are_numbers():
    """JSON writers of other languages write 1.0 as 1."""
    plain = manifest_of("edm-cifar10").to_dict()
    plain["recipe"]["noise"]["P_mean"] = -1
    noise = Manifest.from_dict(plain, "m").recipe.noise
    assert noise.P_mean == -1.0  # type: ignore[union-attr]


def test_differences_name_every_field():
    ours = manifest_of()
    theirs = with_flags(ours, seed=9, k=7, process=PRESETS["vp-cifar10"].recipe.process)
    with pytest.raises(MismatchError) as error:
        ours.check_same(theirs, "s3://run")
    for part in ("s3://run", "seed is 9 there, 3 here", "estimator.k is 7 there, 2048 here", "process.kind"):
        assert part in str(error.value)
    with pytest.raises(MismatchError, match="tuple_fingerprint"):
        replace(ours, seed=4).check_tuples("run")
    ours.check_store("ab" * 32, "run")
    with pytest.raises(MismatchError, match="--store"):
        ours.check_store("cd" * 32, "run")


def test_config_errors_are_user_errors():
    assert issubclass(ConfigError, Exception)
    assert len(set(PRESETS)) == len(PRESETS) >= 10


def test_more_tuples_continue_a_run_as_a_new_segment():
    first = replace(manifest_of(), tuples=100)
    assert first.continuing(first, "there") == first
    second = replace(first, tuples=150).continuing(first, "there")
    assert (second.tuples, second.segments) == (150, (100,))
    assert replace(first, tuples=150).continuing(second, "there") == second
    third = replace(first, tuples=151).continuing(second, "there")
    assert third.segments == (100, 150)
    assert Manifest.from_dict(json.loads(json.dumps(third.to_dict())), "m") == third


def test_the_fingerprint_tells_settings_apart_and_outlives_an_extension():
    short = replace(manifest_of(), tuples=1000)
    longer = replace(short, tuples=2000).continuing(short, "here")
    assert longer.fingerprint == short.fingerprint
    changes = dict(seed=4), dict(n=short.estimator.n + 1), dict(flips=not short.recipe.flips), dict(code_version="1")
    others = [with_flags(short, **change) for change in changes]
    assert len({other.fingerprint for other in [short, *others]}) == 5


def test_fewer_tuples_or_other_settings_do_not_continue_a_run():
    run = replace(manifest_of(), tuples=150, segments=(100,))
    for tuples in (100, 149):
        with pytest.raises(MismatchError, match=f"tuples is 150 there, {tuples} here: a run is never shortened"):
            replace(run, tuples=tuples, segments=()).continuing(run, "there")
    for tuples in (100, 150, 200):
        with pytest.raises(MismatchError, match=r"seed is \d+ there, 77 here: pass"):
            replace(run, tuples=tuples, segments=(), seed=77).continuing(run, "there")


@pytest.mark.parametrize("segments", [[0], [150], [50, 50], [60, 40], [-1], ["100"], 100])
def test_segments_that_do_not_rise_below_the_tuples_are_refused(segments):
    plain = replace(manifest_of(), tuples=150).to_dict()
    with pytest.raises(ShardError, match="segments"):
        Manifest.from_dict(plain | {"segments": segments}, "manifest.json")
