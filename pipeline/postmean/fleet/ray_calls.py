"""Calls of actors through Ray. Import this only inside `ray_session`, which sets the environment that Ray reads."""

import time
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from postmean.fleet.calls import Actor, Call, CallFailed
from postmean.fleet.causes import cause, death, is_ours

_RESULT_SECONDS = 60.0  # an ended call's result may be on another machine


class RayCalls:
    """Actors of one class.

    Args:
        actor: the class.
        arguments: of its constructor.
        options: Ray's options for each actor.
    """

    def __init__(self, actor: type, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._start = ray.remote(actor).options(**options).remote
        self._arguments = arguments

    def start(self) -> Actor:
        return self._start(*self._arguments)

    def call(self, actor: Actor, method: str, *arguments: Any) -> Call:
        return getattr(actor, method).remote(*arguments)

    def wait(self, calls: list[Call], seconds: float) -> tuple[list[Call], list[Call]]:
        return ray.wait(calls, num_returns=1, timeout=seconds)

    def result(self, call: Call) -> Any:
        try:
            return ray.get(call, timeout=_RESULT_SECONDS)
        except RayTaskError as error:
            raise CallFailed(cause(error), is_ours(error)) from error
        except (RayError, GetTimeoutError) as error:
            raise CallFailed(death(error)) from error

    def kill(self, actor: Actor) -> None:
        ray.kill(actor)

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
