"""Why a call of an actor gave no result, in one line."""

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayError, RayTaskError

from postmean.base.errors import PostmeanError


def is_ours(error: RayTaskError) -> bool:
    """Whether a call raised a PostmeanError; any other error may have left its process broken."""
    return isinstance(error.cause, PostmeanError)


def cause(error: RayTaskError) -> str:
    """What a call raised; with its type unless it is a PostmeanError."""
    raised = error.cause if error.cause is not None else error
    line = (str(raised).strip().splitlines() or [""])[0]
    return line if isinstance(raised, PostmeanError) else f"{type(raised).__name__}: {line}"


def death(error: RayError) -> str:
    """How an actor was lost. Ray's own message is a paragraph; its last line names an exception raised at the start."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return f"the actor did not start: {lines[-1]}"
    if isinstance(error, ActorUnavailableError):
        return "the actor cannot be reached"
    if isinstance(error, ActorDiedError):
        return "the actor's process died: it was killed, ran out of memory or crashed"
    return f"the actor was lost: {lines[0]}"
