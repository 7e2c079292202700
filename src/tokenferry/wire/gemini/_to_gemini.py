"""Translates requests of the Messages API to `generateContent`."""

import re
from typing import Any, Final

from tokenferry.errors import Unfit
from tokenferry.wire._codec import Sent
from tokenferry.wire._envelope import opened
from tokenferry.wire._field_handling import FieldTable, changed, left_out, translated, unfit
from tokenferry.wire._ids import tool_name, with_digest
from tokenferry.wire._json import RequestReader, encode
from tokenferry.wire._quirks import Quirks
from tokenferry.wire.gemini import _models as gemini
from tokenferry.wire.gemini._meaning import issued_id
from tokenferry.wire.gemini._schema import allowed_schema
from tokenferry.wire.gemini._thoughts import NO_SIGNATURE
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.messages._conversation import Conversation
from tokenferry.wire.messages._handlings import HANDLINGS
from tokenferry.wire.messages._sampling import asked_budget, asked_effort, pass_sampling
from tokenferry.wire.messages._tools import OfferedFunction, offered_functions

FIELD_HANDLINGS: Final = changed(
    HANDLINGS,
    {
        messages.MessagesRequest: {
            "model": translated("becomes the target's model, in the path"),
            "messages": translated("becomes `contents`; a request that ends with an assistant turn is unfit"),
            "max_tokens": translated("becomes `maxOutputTokens`, at most the model's limit"),
            "system": translated("becomes `systemInstruction`, without Claude Code's billing header"),
            "tools": translated("becomes `functionDeclarations`"),
            "tool_choice": translated("becomes `functionCallingConfig`"),
            "stop_sequences": translated("only the first five are sent"),
            "stream": translated("becomes part of the path"),
            "top_k": translated("left out if the model refuses it"),
            "thinking": translated("becomes `thinkingConfig` if the model takes it; otherwise left out"),
        },
        messages.Turn: {
            "role": translated("adjacent user turns become one; `system` becomes user text in `<system-reminder>` tags")
        },
        messages.ImageContent: {
            "source": translated("becomes `inlineData`; unfit by URL or file id, and for a model that takes no images"),
        },
        messages.Base64Source: {"media_type": translated(), "data": translated()},
        messages.UrlSource: {"url": unfit("the gateway does not fetch files", by_codec=True)},
        messages.DocumentContent: {
            "source": translated(
                "text becomes text, a PDF document becomes `inlineData`; unfit if the model takes no PDF"
            ),
        },
        messages.ThinkingContent: {
            "thinking": left_out("only the signature is sent", by_codec=True),
            "signature": translated("becomes `thoughtSignature` for the account and model that wrote it"),
        },
        messages.ToolUseContent: {
            "id": translated("sent if Gemini issued it; otherwise name and order match a result to its call"),
            "input": translated("becomes `args`"),
        },
        messages.ToolResultContent: {
            "content": translated(
                "becomes `response.output`; images are in the result since Gemini 3, and after the results before"
            ),
            "is_error": translated("becomes `response.error`"),
        },
        messages.FunctionTool: {
            "input_schema": translated("becomes `parametersJsonSchema`, with only the keywords that Gemini accepts"),
            "strict": left_out(by_codec=True),
        },
        messages.ToolChoice: {
            "type": translated("becomes AUTO, ANY, ANY with one allowed name, or NONE"),
            "disable_parallel_tool_use": left_out(by_codec=True),
        },
        messages.ThinkingConfig: {
            "type": translated("`disabled` asks for the least thinking that the model allows"),
            "budget_tokens": translated(
                "becomes `thinkingBudget`; since Gemini 3 `thinkingLevel`, up to 4,096 low, up to 16,384 medium"
            ),
        },
        messages.OutputConfig: {
            "effort": translated("becomes `thinkingLevel` or a budget, if the model takes one; otherwise left out"),
            "format": translated("becomes `responseJsonSchema`; together with tools it is unfit before Gemini 3"),
        },
        messages.OutputFormat: {"schema": translated("with only the keywords that Gemini accepts")},
    },
)

TABLE: Final = FieldTable(FIELD_HANDLINGS)
_MOST_STOPS: Final = 5
_AUTOMATIC: Final = -1
"""The thinking budget with which the model decides itself."""
_MODEL: Final = re.compile(r"[A-Za-z0-9_@-][A-Za-z0-9._@-]*(?:/[A-Za-z0-9_@-][A-Za-z0-9._@-]*)*")
_MODES: Final[dict[str, Any]] = {"auto": "AUTO", "none": "NONE", "any": "ANY", "tool": "ANY"}
_REMINDER: Final = "<system-reminder>\n{}\n</system-reminder>"


def _demand_no_output(document: Any) -> None:
    if isinstance(document, dict):
        document.setdefault("max_tokens", 1)


_reader: Final = RequestReader(messages.MessagesRequest)
_count_reader: Final = RequestReader(messages.MessagesRequest, _demand_no_output)


def to_gemini(body: bytes, model: str, quirks: Quirks, domain: str) -> Sent:
    """Translate a request for an upstream whose name for the model is `model`. Raises `Unfit`."""
    left: set[str] = set()
    asked = _reader.read(body, left)
    request = _request(asked, quirks, domain, left)
    names = {short: tool.name for tool in asked.tools or () if (short := _name(tool.name, quirks)) != tool.name}
    is_stream = bool(asked.stream)
    return Sent(
        body=encode(request),
        model=model,
        stream=is_stream,
        path=model_path(model, "streamGenerateContent?alt=sse" if is_stream else "generateContent", quirks),
        left_out=tuple(sorted(left)),
        names=names,
    )


def count_on_gemini(body: bytes, model: str, quirks: Quirks, domain: str) -> Sent:
    """Translate a request to count tokens. Raises `Unfit`."""
    left: set[str] = set()
    request = _request(_count_reader.read(body, left), quirks, domain, left)
    if quirks.vertex:  # it refuses any other field
        request.generation_config = request.tool_config = None
        asked: Any = request
    else:
        request.model = model if "/" in model else f"models/{model}"
        asked = {"generateContentRequest": request}
    return Sent(body=encode(asked), model=model, stream=False, path=model_path(model, "countTokens", quirks))


def model_path(model: str, method: str, quirks: Quirks) -> str:
    """Give the path of a model's method. Raises `Unfit` for a name that would change the path."""
    if _MODEL.fullmatch(model) is None:
        raise Unfit("the model's name can't be part of a path")
    if quirks.vertex:
        if model.startswith("claude-"):
            raise Unfit("Claude at Vertex AI needs a provider of the type vertex-claude; map the model to one")
        whole = model if "/" in model else f"publishers/google/models/{model}"
    else:
        whole = model if "/" in model else f"models/{model}"
    return f"/{whole}:{method}"


def _request(asked: messages.MessagesRequest, quirks: Quirks, domain: str, left: set[str]) -> gemini.WrittenRequest:
    TABLE.apply(asked, left)
    history = _History(quirks, domain, left)
    for turn in asked.messages:
        history.add(turn)
    history.check()
    if not history.contents:
        raise Unfit("every message of the request is empty")
    if history.contents[-1].role == "model":
        raise Unfit("the last turn is the assistant's, which this upstream can't continue")
    functions = offered_functions(asked, TABLE, quirks, left)
    if any(one.is_strict for one in functions):
        left.add("strict")
    choice = asked.tool_choice if functions else None
    if choice is not None and choice.disable_parallel_tool_use:
        left.add("disable_parallel_tool_use")
    system = history.system_prompt(asked.system)
    return gemini.WrittenRequest(
        contents=history.contents,
        system_instruction=gemini.WrittenContent(parts=[gemini.WrittenPart(text=system)]) if system else None,
        tools=_tools(functions, quirks),
        tool_config=None if choice is None else _tool_config(choice, quirks),
        generation_config=_generation(asked, quirks, left, has_tools=bool(functions)),
    )


class _History(Conversation[gemini.WrittenPart]):
    """Writes the conversation as contents. All results of a turn are one content, in the order of the calls."""

    def __init__(self, quirks: Quirks, domain: str, left: set[str]) -> None:
        super().__init__(TABLE, quirks, left)
        self.contents: list[gemini.WrittenContent] = []
        self._domain = domain
        self._calls: dict[str, gemini.WrittenCall] = {}
        """The calls of the model's last turn, by id."""
        self._results: dict[str, gemini.WrittenPart] = {}
        self._later: list[gemini.WrittenPart] = []
        """The parts that follow the results."""
        self._is_gemini_3 = quirks.thinking == "level"

    def _system(self, text: str) -> None:
        self._user([gemini.WrittenPart(text=_REMINDER.format(text))])

    def _user(self, parts: list[gemini.WrittenPart]) -> None:
        if parts:
            self._later += parts
        if self._pending:
            return
        if self._results:
            results = [self._results[known] for known in self._calls]
            self.contents.append(gemini.WrittenContent(role="user", parts=results))
            self._results = {}
        if self._later:
            last = self.contents[-1] if self.contents else None
            if last is not None and last.role == "user" and last.parts[0].function_response is None:
                last.parts += self._later
            else:
                self.contents.append(gemini.WrittenContent(role="user", parts=self._later))
            self._later = []

    def _text_part(self, text: str) -> gemini.WrittenPart:
        return gemini.WrittenPart(text=text)

    def _image_part(self, url: str) -> gemini.WrittenPart:
        return gemini.WrittenPart(inline_data=_blob(url, "an image"))

    def _file_part(self, name: str, url: str) -> gemini.WrittenPart:  # noqa: ARG002  # Gemini has no field for the name
        return gemini.WrittenPart(inline_data=_blob(url, "a document"))

    def _result(self, block: messages.ToolResultContent) -> list[gemini.WrittenPart]:
        known = self._pending.answer(block.tool_use_id)
        call, text = self._calls[known], block.content or ""
        files: list[gemini.WrittenPart] | None = None
        if not isinstance(text, str):
            parts = [part for one in text for part in self._user_parts(one)]
            files = [part for part in parts if part.text is None]
            text = "\n".join(part.text for part in parts if part.text is not None)
        response = {"error" if block.is_error else "output": text}
        result = gemini.WrittenResponse(name=call.name, id=call.id, response=response)
        self._results[known] = gemini.WrittenPart(function_response=result)
        if files and self._is_gemini_3:
            result.parts, files = files, None
        return [gemini.WrittenPart(text=f"From the result of the call of {call.name}:"), *files] if files else []

    def _assistant(self, content: list[Any]) -> None:
        parts: list[gemini.WrittenPart] = []
        self._calls = {}
        signature: str | None = None
        for block in content:
            if isinstance(block, messages.TextContent):
                if text := self._text(block):
                    parts.append(gemini.WrittenPart(text=text))
            elif isinstance(block, messages.ToolUseContent):
                known, name, _ = self._call(block)
                if self._is_gemini_3 and not self._calls:
                    signature = signature or NO_SIGNATURE
                call = gemini.WrittenCall(
                    name=_function_name(name, self._quirks), args=block.input, id=issued_id(block.id)
                )
                self._calls[known] = call
                parts.append(gemini.WrittenPart(function_call=call, thought_signature=signature))
                signature = None
            elif not isinstance(block, messages.ThinkingContent | messages.RedactedThinkingContent):
                raise Unfit(f"an assistant's message holds {block.__struct_config__.tag}")
            elif isinstance(block, messages.ThinkingContent) and (
                (opening := opened(block.signature, self._domain)) is not None
            ):
                signature = opening or signature
            else:
                self._left.add("thinking")
        if parts:
            self.contents.append(gemini.WrittenContent(role="model", parts=parts))


def _blob(url: str, noun: str) -> gemini.Blob:
    kind, mark, data = url.removeprefix("data:").partition(";base64,")
    if not mark or not url.startswith("data:"):
        raise Unfit(f"{noun} by its URL can't be sent: the gateway does not fetch files")
    return gemini.Blob(mime_type=kind, data=data)


def _function_name(name: str, quirks: Quirks) -> str:
    """Give a name that begins with a letter or an underscore, as Gemini demands."""
    return name if name[:1].isalpha() or name.startswith("_") else with_digest(f"_{name}", quirks.name_length)


def _name(name: str, quirks: Quirks) -> str:
    return _function_name(tool_name(name, quirks.name_length), quirks)


def _tools(functions: list[OfferedFunction], quirks: Quirks) -> list[gemini.GeminiTool] | None:
    declared = [_declaration(one, quirks) for one in functions]
    return [gemini.GeminiTool(function_declarations=declared)] if declared else None


def _declaration(function: OfferedFunction, quirks: Quirks) -> gemini.FunctionDeclaration:
    return gemini.FunctionDeclaration(
        name=_function_name(function.name, quirks),
        description=function.description,
        parameters_json_schema=allowed_schema(function.schema),
    )


def _tool_config(choice: messages.ToolChoice, quirks: Quirks) -> gemini.ToolConfig:
    names = [_name(choice.name or "", quirks)] if choice.type == "tool" else None
    config = gemini.FunctionCallingConfig(mode=_MODES[choice.type], allowed_function_names=names)
    return gemini.ToolConfig(function_calling_config=config)


def _generation(
    asked: messages.MessagesRequest, quirks: Quirks, left: set[str], *, has_tools: bool
) -> gemini.GenerationConfig:
    limit, stops = quirks.output_limit(asked.max_tokens), asked.stop_sequences or []
    if len(stops) > _MOST_STOPS:
        left.add("stop_sequences")
    config = gemini.GenerationConfig(
        max_output_tokens=limit,
        stop_sequences=stops[:_MOST_STOPS] or None,
        thinking_config=_thinking(asked, limit, quirks, left),
    )
    pass_sampling(asked, config, quirks, left)
    if asked.top_k is not None:
        if quirks.temperature:
            config.top_k = asked.top_k
        else:
            left.add("top_k")
    if asked.output_config is not None:
        TABLE.apply(asked.output_config, left)
        if asked.output_config.format is not None:
            if has_tools and quirks.thinking != "level":
                raise Unfit("output_config.format and tools: before Gemini 3 a model takes only one of them")
            config.response_mime_type = "application/json"
            config.response_json_schema = allowed_schema(asked.output_config.format.schema)
    return config


def _thinking(
    asked: messages.MessagesRequest, limit: int, quirks: Quirks, left: set[str]
) -> gemini.GeminiThinking | None:
    """Give the `thinkingConfig`, by level or by budget. A client that asks for thinking also receives it.

    A budget that would use up the whole output limit is reduced to half of the limit.
    """
    thinking = asked.thinking
    if thinking is not None:
        TABLE.apply(thinking, left)
    is_off = thinking is not None and thinking.type == "disabled"
    is_shown = True if thinking is not None and not is_off else None
    found = gemini.GeminiThinking(include_thoughts=is_shown)
    if quirks.thinking == "level":
        level = quirks.efforts[0] if is_off and quirks.efforts else asked_effort(asked, quirks, left)
        found.thinking_level = None if level is None else level.upper()
    elif quirks.thinking == "budget":
        least, most = quirks.budgets
        budget = least if is_off else asked_budget(asked)
        if budget is None:
            found.thinking_budget = _AUTOMATIC if is_shown else None
        else:
            budget = min(budget, most)
            found.thinking_budget = max(budget if budget < limit else limit // 2, least)
    else:
        if is_shown:
            left.add("thinking")
        asked_effort(asked, quirks, left)  # adds the effort to what is left out
        return None
    return found if found.include_thoughts or found.thinking_level or found.thinking_budget is not None else None
