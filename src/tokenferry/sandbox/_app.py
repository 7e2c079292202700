from collections.abc import Callable

from tokenferry.sandbox import _control, _messages, _router
from tokenferry.sandbox._delivery import Delivery
from tokenferry.sandbox._faults import Plan
from tokenferry.sandbox._http import Answer, ApiError, Request, error_answer
from tokenferry.sandbox._line import BODY_LIMIT, Line, Message, Receive, Send, first
from tokenferry.sandbox._state import State


class App:
    """The sandbox as an ASGI application. The listener must put its protocol into `state`, see `_line.CONNECTION`."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        line = Line(scope, receive, send, self._state.clock.now())
        request = _request(scope)
        body = await line.body()
        if body is None:
            message = f"Request exceeds the maximum size of {BODY_LIMIT} bytes"
            await line.whole(error_answer(413, message, "req_sandbox"))
            return
        request.body = body
        if request.path == "/_sandbox" or request.path.startswith("/_sandbox/"):
            await line.whole(_control.answer(self._state, request))
        else:
            await self._serve(request, line)

    async def _serve(self, request: Request, line: Line) -> None:
        state = self._state
        with state.lock:
            account = state.owner_of(request)
            counters = state.counters
            entry = counters.begin(request, account, state.clock.now())
            plan = state.faults.plan(request, account)
            request_id = state.mint.identifier("req_sandbox")
            state.counted.notify_all()
        delivery = Delivery(
            request,
            plan,
            state.clock,
            request_id,
            arrived=entry["time"],
            work=self._work(request, request_id),
            limit_headers=lambda: self._limit_headers(request),
            answered=lambda status: entry.update(status=status),
        )
        cancelled = False
        try:
            cancelled = await self._deliver(delivery, plan, request, line)
        finally:
            with state.lock:
                counters.end(account, cancelled=cancelled)
                state.counted.notify_all()

    async def _deliver(self, delivery: Delivery, plan: Plan, request: Request, line: Line) -> bool:
        if plan or request.wants_stream:
            return await first(delivery.run(line), line)
        await delivery.run(line)
        return False

    def _work(self, request: Request, request_id: str) -> Callable[[], Answer]:
        def work() -> Answer:
            with self._state.lock:
                self._state.counted.notify_all()
                return _router.answer(self._state, request, request_id)

        return work

    def _limit_headers(self, request: Request) -> list[tuple[str, str]]:
        with self._state.lock:
            try:
                caller = _messages.authenticate(self._state, request)
            except ApiError:
                return []
            model = request.json.get("model", "") if isinstance(request.json, dict) else ""
            headers = _messages.limit_headers(self._state, caller, str(model))
            return [("anthropic-organization-id", caller.account.organization_uuid), *headers]


def _request(scope: Message) -> Request:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return Request(
        scope["method"],
        scope["raw_path"].decode("latin-1"),
        scope["query_string"].decode("latin-1"),
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
    )
