"""Calls of actors through Ray. Import this only inside `ray_session`, which sets the environment that Ray reads."""

import time
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from postmean.fleet.calls import Actor, Call, CallFailed
from postmean.fleet.causes import cause, death, is_ours
from postmean.fleet.ray_thread import ANSWER_SECONDS, RayHangs, RayThread

_RESULT_SECONDS = 60.0  # an ended call's result may be on another machine
_KILL_SECONDS = 20.0  # less than a command has to end after a signal


class RayCalls:
    """Actors of one class. Every method raises RayHangs if Ray does not answer, except `kill`.

    Args:
        ray_thread: of the session.
        actor: the class.
        arguments: of its constructor.
        options: Ray's options for each actor.
    """

    def __init__(self, ray_thread: RayThread, actor: type, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._ask = ray_thread.ask
        self._start = ray.remote(actor).options(**options).remote
        self._arguments = arguments

    def start(self) -> Actor:
        return self._ask(lambda: self._start(*self._arguments))

    def call(self, actor: Actor, method: str, *arguments: Any) -> Call:
        return self._ask(lambda: getattr(actor, method).remote(*arguments))

    def wait(self, calls: list[Call], seconds: float) -> tuple[list[Call], list[Call]]:
        return self._ask(lambda: ray.wait(calls, num_returns=1, timeout=seconds), seconds + ANSWER_SECONDS)

    def result(self, call: Call) -> Any:
        try:
            return self._ask(lambda: ray.get(call, timeout=_RESULT_SECONDS), _RESULT_SECONDS + ANSWER_SECONDS)
        except RayTaskError as error:
            raise CallFailed(cause(error), is_ours(error)) from error
        except (RayError, GetTimeoutError) as error:
            raise CallFailed(death(error)) from error

    def kill(self, actor: Actor) -> None:
        with suppress(RayHangs):  # the next call raises it; actors end with the session
            self._ask(lambda: ray.kill(actor), _KILL_SECONDS)

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
