"""The plan of a generation: what it takes, before anything runs."""

from postmean.base.progress import ShowProgress, shown
from postmean.fleet.open_fleet import fleet_size
from postmean.planning.config import MachineSettings, PlanConfig
from postmean.planning.cost import CostPlan, estimate_cost
from postmean.planning.workload import Workload, of_job, workload
from postmean.runs.job import prepare


def plan(config: PlanConfig, progress: bool | ShowProgress = True) -> CostPlan:
    """Count the records of a job, measure a sample of them in this process, and extrapolate. Writes nothing.

    >>> cost = plan(PlanConfig.preset("edm-digits", store=digits.path, tuples=2000), progress=False)
    >>> cost.tuples, cost.shards, 0 < cost.records < 2000, 0 < cost.bytes
    (2000, 1, True, True)

    Args:
        progress: whether to show the tuples, where all are counted (`exact`), and what is fetched of a store at a URL.
    Raises:
        ConfigError: settings that contradict each other.
        DataError: no store, or one that is not indexed.
    """
    show = shown(progress)
    work = of_job(prepare(config, None, show)) if config.exact else workload(config, config.sample, show)
    return cost_of(work, config.machines)


def cost_of(work: Workload, settings: MachineSettings) -> CostPlan:
    """The cost of a workload on these machines."""
    machines, manifest = settings.machines, work.manifest
    if machines is None:
        actors = fleet_size(settings.actors, manifest.device, manifest.threads_per_actor)
    else:
        actors = settings.actors or machines.actors(manifest.threads_per_actor)
    return estimate_cost(work, actors, machines, settings.price, settings.records_per_second)
