"""`postmean doctor`: what this machine can do, and what to install."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postmean.base.command_line import CommandLine
from postmean.base.progress import byte_size

if TYPE_CHECKING:
    from postmean.planning.this_machine import Machine


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Nothing to set."""


COMMAND = CommandLine(
    name="doctor",
    settings=DoctorConfig,
    summary="Say what this machine can do (cores, memory, GPUs, disk, Ray, FAISS, extras), and what to install.",
    main="",
)


def run(argv: list[str]) -> int:
    """Entry point of the command."""
    _, output = COMMAND.parse(argv)
    from postmean.planning.this_machine import examine

    machine = examine()
    output.report(machine, _text(machine))
    return 0


def _text(machine: "Machine") -> str:
    def size(count: int | None) -> str:
        return "unknown" if count is None else byte_size(count)

    missing = {extra: packages for extra, packages in machine.extras.items() if packages}
    rows = {
        "postmean": f"{machine.postmean}, Python {machine.python}, {machine.system}",
        "cores": f"{machine.cores} of {machine.cores_of_machine}",
        "memory": f"{size(machine.memory_free_bytes)} free of {size(machine.memory_bytes)}",
        "/dev/shm": f"{size(machine.shm_free_bytes)} free",
        "disk": ", ".join(f"{size(free)} free at {name}" for name, free in machine.disk_free_bytes.items()),
        "GPUs": "; ".join(machine.gpus) or "none",
        "torch": machine.torch,
        "FAISS": machine.faiss,
        "Ray": machine.ray + (f", cluster {machine.ray_address}" if machine.ray_address else ", started here by runs"),
        "extras": ", ".join(extra for extra in machine.extras if extra not in missing) or "none",
    }
    rows |= {f"  not {extra}": f"lacks {', '.join(packages)}" for extra, packages in missing.items()}
    rows |= {f"  {name}": value for name, value in machine.environment.items()}
    lines = [f"{name:<{max(map(len, rows))}}  {value}" for name, value in rows.items()]
    return "\n".join([*lines, "", *(machine.problems or ["nothing to mend"])])
