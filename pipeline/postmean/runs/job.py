"""A job: settings and store resolved into manifest, certificate and plan, before anything is estimated."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np

from postmean.base.cores import usable_cores
from postmean.base.device import choose_device, usable_device
from postmean.base.environment import cluster_address
from postmean.base.errors import ConfigError
from postmean.base.extras import check_installed
from postmean.base.progress import NoProgress, ShowProgress
from postmean.contract.image_store import ImageStore
from postmean.contract.manifest import SCHEMA_VERSION, Manifest, code_version
from postmean.contract.plan import Plan, make_plan
from postmean.contract.process import TableProcess
from postmean.contract.recipe import TargetRecipe
from postmean.engine.population import Population, queries_per_pass
from postmean.estimators.traits import traits_of
from postmean.fleet.ray_session import cluster_device
from postmean.neighbours.certificate import certified_sigma
from postmean.neighbours.faiss_gpu import check_here, check_kind, check_search
from postmean.neighbours.faiss_search import built_index
from postmean.neighbours.faiss_spec import FaissSpec
from postmean.neighbours.self_join import SelfJoin
from postmean.runs.config import JobConfig
from postmean.shards.run_folder import RunFolder
from postmean.shards.run_paths import CERTIFIED_SIGMA, PLAN

Config = TypeVar("Config", bound=JobConfig)


@dataclass(frozen=True)
class Job:
    """Everything that decides what a run holds."""

    store: ImageStore
    manifest: Manifest
    certified_sigma: np.ndarray | None
    """float32 [N], None without the certificate"""
    plan: Plan

    def check_store(self, progress: ShowProgress) -> None:
        """Check the images before a fleet starts, which takes longer; DataError if one is damaged.

        A store at a URL is thus fetched, if the actors are on this node. On a cluster each of their nodes fetches it.
        """
        if self.store.remote is not None and cluster_address():
            return
        with progress("check store", len(self.store), "images") as line:
            self.store.check(line.update)

    def begin(self, run: RunFolder) -> None:
        """Begin this run in a folder, or extend the run there: completely or not at all."""
        run.begin(self.manifest, self.plan, self.certified_sigma)


def prepare(config: JobConfig, run: RunFolder | None, progress: ShowProgress = NoProgress) -> Job:
    """Resolve the settings. If the output holds the same run, the job resumes it.

    With more tuples than that run has, the job extends it: existing shards stay as they are, new shards follow them.

    Args:
        run: the output; None to plan without one.
        progress: shows the tuples planned.

    Raises:
        ConfigError: settings that do not fit this store or machine.
        DataError: no store, or no self-join or index where it is needed.
        MismatchError: the output holds another run; the message names every field that differs.
    """
    store = ImageStore.open(config.store, progress)
    manifest = resolve(config, store)
    begun = run if run is not None and run.has_manifest() else None
    if begun:
        manifest = manifest.continuing(begun.read_manifest(), begun.storage.url)
    check_index(manifest, store)
    certified = None
    if begun and begun.storage.exists(CERTIFIED_SIGMA):
        certified = begun.read_certified_sigma()
    elif manifest.estimator.certificate:
        join = SelfJoin.load(store, manifest.recipe.flips, manifest.recipe.conditional)
        certified = certified_sigma(join, manifest.estimator.tolerance, store.dim)
    plan, planned = None, 0
    if begun and begun.storage.exists(PLAN):
        plan, planned = begun.read_plan(), begun.read_manifest().tuples
    with progress("plan", config.tuples, "tuples") as line:
        for start, stop in pairwise((0, *manifest.segments, manifest.tuples)):
            if stop > planned:
                segment = make_plan(
                    manifest.tuple_source(),
                    stop,
                    manifest.plan_certificate(certified),
                    manifest.shards.records_per_shard,
                    threads=usable_cores(),
                    progress=line.update,
                    start=start,
                )
                plan = segment if plan is None else plan.followed_by(segment)
    assert plan is not None
    if begun:
        begun.check_made_again(plan, certified)
    return Job(store, manifest, certified, plan)


def for_cluster(config: Config, run: RunFolder | None) -> Config:
    """The settings of a job of the cluster at RAY_ADDRESS: auto is the device of the run, or that of the cluster.

    Without RAY_ADDRESS they stay as they are, and auto is this machine's device.
    """
    if config.actor.device != "auto" or not cluster_address():
        return config
    device = run.read_manifest().device if run is not None and run.has_manifest() else cluster_device()
    return replace(config, actor=replace(config.actor, device=device))


def check_index(manifest: Manifest, store: ImageStore) -> None:
    """Raise unless the estimator's index was built, FAISS is installed, and the device takes the index.

    Once here instead of in every actor.
    """
    settings = manifest.estimator
    if not traits_of(settings.name).searches or settings.index == "exact":
        return
    check_installed("faiss", "faiss")
    spec = FaissSpec(settings.index)
    if manifest.device == "cuda":
        check_kind(spec)
        check_search(spec, settings.k, settings.nprobe)
        if not cluster_address():  # its GPUs, and the FAISS for them, are on other machines
            check_here(spec, Population(store, manifest.recipe.flips, device="cuda"))
    built_index(store, spec, manifest.recipe.flips)


def resolve(config: JobConfig, store: ImageStore) -> Manifest:
    """The manifest of these settings on this store."""
    recipe = config.recipe
    if recipe.conditional and store.labels is None:
        raise ConfigError(f"--conditional: {store.where} has no labels")
    if config.estimator.index != "exact":
        FaissSpec(config.estimator.index)
        if recipe.conditional:
            raise ConfigError("--conditional: searches one class exactly: leave --index at exact")
    if config.process_table:
        recipe = replace(recipe, process=TableProcess.from_csv(config.process_table))
    # the certificate is for the exact mean, which not all estimators estimate
    certificate = config.estimator.certificate and traits_of(config.estimator.name).estimates_exact_mean
    max_support = 0 if config.shards.self_contained else config.shards.max_support
    device = _device(config.actor.device)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        code_version=code_version(),
        store_fingerprint=store.header.fingerprint,
        store_shape=store.header.shape,
        classes=store.classes,
        recipe=recipe,
        seed=config.seed,
        tuples=config.tuples,
        estimator=replace(config.estimator, certificate=certificate),
        shards=replace(config.shards, max_support=max_support),
        device=device,
        threads_per_actor=config.actor.threads_per_actor,
        queries_per_pass=_queries_per_pass(device, recipe, store),
        tuple_fingerprint="",
    )
    return replace(manifest, tuple_fingerprint=manifest.tuple_source().fingerprint())


def _queries_per_pass(device: str, recipe: TargetRecipe, store: ImageStore) -> int:
    images = len(store)
    if recipe.conditional and store.labels is not None:
        images = int(np.bincount(store.labels).max())
    return queries_per_pass(device, images * (2 if recipe.flips else 1))


def _device(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    # the cluster's GPUs are on other machines (`for_cluster`)
    if not cluster_address():
        usable_device(asked)
    return choose_device(asked)
