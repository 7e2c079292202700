import contextlib
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Final

from tokenferry.broker import StoredLogin
from tokenferry.credentials import OAuthToken
from tokenferry.errors import LoginFailed, TokenferryError, TryLater
from tokenferry.login import DeviceLogin, identified
from tokenferry.oauth import DeviceCode, HttpOutcome, OAuthEndpoints, TokenRequest

logger = logging.getLogger(__name__)

_MOST: Final = 10


class DeviceLogins:
    """This process's logins that wait for a code to be confirmed on another device, each on a thread (RFC 8628).

    `under_way` is entered while a login is stored.
    """

    def __init__(
        self,
        send: Callable[[TokenRequest, float], HttpOutcome],
        under_way: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._send = send
        self._under_way = under_way
        self._closing = threading.Event()
        self._places = threading.BoundedSemaphore(_MOST)

    def begin(
        self,
        endpoints: OAuthEndpoints,
        store: Callable[[OAuthToken], StoredLogin],
        ended: Callable[[str], None],
    ) -> DeviceCode:
        """Return the code to confirm; `ended` gets a sentence at the end. Raises what asking for a code raises."""
        if not self._places.acquire(blocking=False):
            raise TryLater(f"{_MOST} logins wait for a code to be confirmed; finish one of them first")
        answers: SimpleQueue[DeviceCode | TokenferryError] = SimpleQueue()
        threading.Thread(
            target=self._run, args=(endpoints, store, ended, answers), name="tokenferry-device-login"
        ).start()
        answer = answers.get()
        if isinstance(answer, TokenferryError):
            raise answer
        return answer

    def close(self) -> None:
        """End the waiting logins."""
        self._closing.set()

    def _run(
        self,
        endpoints: OAuthEndpoints,
        store: Callable[[OAuthToken], StoredLogin],
        ended: Callable[[str], None],
        answers: "SimpleQueue[DeviceCode | TokenferryError]",
    ) -> None:
        try:
            with self._under_way():  # an answer is stored even if the gateway ends
                login = DeviceLogin(endpoints, show=answers.put, send=self._send, sleep=self._sleep)
                stored = store(identified(endpoints, login.run(), self._send))
            sentence = f"Logged in: account {stored.name} was {'updated' if stored.has_replaced else 'stored'}."
        except TokenferryError as fault:
            answers.put(fault)  # not read after there was a code
            sentence = f"The login failed: {fault}."
        finally:
            self._places.release()
        with contextlib.suppress(TokenferryError):
            ended(sentence)

    def _sleep(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise LoginFailed("the gateway ended before the code was confirmed; log in again")
