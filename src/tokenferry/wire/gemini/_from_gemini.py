"""Translates requests of Gemini's `generateContent` to the Messages API."""

from base64 import b64decode
from binascii import Error
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from tokenferry.errors import Unfit
from tokenferry.wire._codec import Sent
from tokenferry.wire._field_handling import FieldHandlings, FieldTable, left_out, translated, unfit
from tokenferry.wire._ids import changed_names, made_up_id, tool_name
from tokenferry.wire._json import RequestReader, decode, encode
from tokenferry.wire._quirks import Quirks
from tokenferry.wire._schema import closed, object_schema
from tokenferry.wire.gemini import _models as gemini
from tokenferry.wire.gemini._openapi_schema import json_schema
from tokenferry.wire.gemini._spelling import complete
from tokenferry.wire.gemini._thoughts import NO_SIGNATURES, opened_thoughts
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.messages._sampling import ask_for_thinking, limit_sampling
from tokenferry.wire.messages._turns import LONGEST_NAME, TurnWriter, base64_source, text_blocks

_VENDORS: Final = translated("images and PDF documents by http URL; any other file is unfit")
_HINT: Final = left_out("it says how the vendor reads the file")
_SERVER: Final = translated("the server runs this tool: unfit, or left out if the mapping's `drop` names it")
_RAN: Final = unfit("the server ran this tool")
_OTHER_MEDIA: Final = unfit("only text is supported")
_FILE: Final = {
    "media_resolution": _HINT,
    "media_processing": _HINT,
    "video_metadata": _HINT,
    "audio_metadata": _HINT,
    "document_metadata": _HINT,
    "spreadsheet_metadata": _HINT,
}

FIELD_HANDLINGS: Final[FieldHandlings] = {
    gemini.GenerateContentRequest: {
        "contents": translated("adjacent contents of one role become one turn"),
        "system_instruction": translated("becomes `system`"),
        "tools": translated("only functions"),
        "tool_config": translated("becomes `tool_choice`"),
        "generation_config": translated(),
        "model": translated("becomes the target's model"),
        "stream": translated("not a field of the API: the gateway sets it from the request's path"),
        "safety_settings": left_out("the model's vendor has its own"),
        "cached_content": unfit("the vendor stores it; send the whole conversation as `contents`"),
        "labels": left_out("they may name a person"),
        "store": left_out(),
        "service_tier": left_out(),
        "model_armor_config": unfit("the vendor runs this check"),
    },
    gemini.GeminiContent: {
        "role": translated(
            "`model` becomes assistant; a later `system` turn becomes user text in `<system-reminder>` tags"
        ),
        "parts": translated(),
    },
    gemini.GeminiPart: {
        "text": translated("without empty texts"),
        "inline_data": translated("images, PDF documents and text; any other file is unfit"),
        "file_data": _VENDORS,
        "function_call": translated("becomes `tool_use`; a call without an id gets one"),
        "function_response": translated("becomes `tool_result`; unfit unless each call has exactly one"),
        "thought": left_out("the signature holds what the model wants back", by_codec=True),
        "thought_signature": translated(
            "becomes `thinking` with its signature, if it is the target model's own; otherwise left out"
        ),
        "executable_code": _RAN,
        "code_execution_result": _RAN,
        "tool_call": _RAN,
        "tool_response": _RAN,
        **_FILE,
        "audio_transcription": _HINT,
        "speech_metadata": _HINT,
        "part_metadata": left_out(),
    },
    gemini.Blob: {"mime_type": translated(), "data": translated(), "display_name": left_out()},
    gemini.GeminiFile: {
        "file_uri": translated("the http URL of an image or a PDF document"),
        "mime_type": translated(),
        "display_name": left_out(),
    },
    gemini.GeminiCall: {
        "name": translated(),
        "args": translated(),
        "id": translated(),
        "partial_args": unfit("a call must be complete"),
        "will_continue": unfit("a call must be complete"),
    },
    gemini.FunctionResponse: {
        "name": translated("identifies the call if there is no id"),
        "response": translated(
            "`output` or `result` alone becomes text, `error` alone text with `is_error`, anything else JSON"
        ),
        "id": translated(),
        "parts": translated("images and PDF documents in the result"),
        "will_continue": unfit("a result must be complete"),
        "scheduling": left_out(),
    },
    gemini.ResponsePart: {"inline_data": translated(), "file_data": _VENDORS, **_FILE},
    gemini.GeminiTool: {
        "function_declarations": translated(),
        "google_search": _SERVER,
        "google_search_retrieval": _SERVER,
        "google_maps": _SERVER,
        "url_context": _SERVER,
        "code_execution": _SERVER,
        "computer_use": _SERVER,
        "file_search": _SERVER,
        "retrieval": _SERVER,
        "enterprise_web_search": _SERVER,
        "parallel_ai_search": _SERVER,
        "exa_ai_search": _SERVER,
        "mcp_servers": _SERVER,
    },
    gemini.FunctionDeclaration: {
        "name": translated("a long name, or one with odd characters, is changed, and restored in the answer"),
        "description": translated(),
        "parameters": translated("becomes JSON Schema"),
        "parameters_json_schema": translated("unchanged"),
        "response": left_out(),
        "response_json_schema": left_out(),
        "behavior": left_out(),
    },
    gemini.ToolConfig: {
        "function_calling_config": translated(
            "becomes auto, any, a tool or none; with allowed names, only those functions are sent"
        ),
        "retrieval_config": left_out(),
        "include_server_side_tool_invocations": left_out(),
    },
    gemini.FunctionCallingConfig: {
        "mode": translated("`VALIDATED` becomes auto"),
        "allowed_function_names": translated(),
        "stream_function_call_arguments": left_out("a call arrives in one piece"),
    },
    gemini.GenerationConfig: {
        "max_output_tokens": translated("becomes `max_tokens`; the default is the model's limit or 32,000"),
        "temperature": translated("at most 1; left out if the model takes no temperature"),
        "top_p": translated("left out if there is a temperature"),
        "top_k": translated(),
        "stop_sequences": translated("without sequences of white space only"),
        "candidate_count": translated("more than one is unfit"),
        "thinking_config": translated(
            "becomes `thinking` if the model and the conversation allow it; otherwise left out"
        ),
        "response_mime_type": translated(
            "text; JSON by its schema, or by an instruction if there is no schema; any other type is unfit"
        ),
        "response_json_schema": translated(
            "becomes `output_config.format`; every object but a map gets `additionalProperties: false`"
        ),
        "response_schema": translated("becomes JSON Schema in `output_config.format`"),
        "response_format": _OTHER_MEDIA,
        "response_modalities": translated("anything but text is unfit"),
        "response_logprobs": unfit(),
        "logprobs": left_out("it has no effect without `responseLogprobs`"),
        "seed": left_out(),
        "presence_penalty": left_out(),
        "frequency_penalty": left_out(),
        "media_resolution": _HINT,
        "speech_config": _OTHER_MEDIA,
        "audio_timestamp": _HINT,
        "audio_transcription_config": _OTHER_MEDIA,
        "translation_config": _OTHER_MEDIA,
        "image_config": _OTHER_MEDIA,
        "routing_config": left_out("the gateway has its own"),
        "model_selection_config": left_out("the gateway has its own"),
        "enable_affective_dialog": left_out(),
        "enable_enhanced_civic_answers": left_out(),
    },
    gemini.GeminiThinking: {
        "include_thoughts": translated("if false, thoughts are returned only in signatures"),
        "thinking_budget": translated(
            "0 turns thinking off; up to 4,096 becomes effort low, up to 16,384 and -1 medium, more high"
        ),
        "thinking_level": translated("becomes the effort of that name"),
    },
}

TABLE: Final = FieldTable(FIELD_HANDLINGS)
_LOW, _MEDIUM = 4096, 16_384
_MODES: Final[dict[str, Any]] = {"AUTO": "auto", "VALIDATED": "auto", "ANY": "any", "NONE": "none"}
_JSON_ONLY: Final = "Answer with JSON and with nothing else."
_JSON: Final = "application/json"
_TEXT: Final = "text/plain"
_PDF: Final = "application/pdf"
_WEB: Final = ("https://", "http://")
_VENDORS_FILES: Final = "generativelanguage.googleapis.com"


_reader: Final = RequestReader(gemini.GenerateContentRequest, complete=complete)


def from_gemini(body: bytes, model: str, quirks: Quirks, domain: str, *, is_last: bool) -> Sent:
    """Translate a request for an upstream whose name for the model is `model`. Raises `Unfit`.

    `is_last` says that no other codec follows: the request goes to Claude and must obey Claude's limits.
    """
    left: set[str] = set()
    asked = _reader.read(body, left)
    TABLE.apply(asked, left)
    config = asked.generation_config or gemini.GenerationConfig()
    _check(config, left)
    history = _History(domain, left)
    if asked.system_instruction is not None:
        history.instruct(asked.system_instruction)
    for content in asked.contents:
        history.add(content)
    format_ = _format(config, history.turns)
    system, turns = history.turns.end()
    tools = _tools(asked.tools or (), quirks, left)
    choice, tools = _choice(asked.tool_config, tools, left)
    request = messages.MessagesRequest(
        model=model,
        messages=turns,
        max_tokens=quirks.output_limit(config.max_output_tokens or None),
        system=system or None,
        tools=[tool for _, tool in tools] or None,
        tool_choice=choice if tools else None,
        stop_sequences=[stop for stop in config.stop_sequences or () if stop.strip()] or None,
        stream=asked.stream or None,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=None if config.top_k is None else int(config.top_k),
        output_config=format_,
    )
    if is_last:
        limit_sampling(request, quirks, left)
    thinking = config.thinking_config or gemini.GeminiThinking()
    dropped = ask_for_thinking(_effort(thinking), request, quirks, may_think=history.turns.may_think, is_last=is_last)
    left.update("thinkingConfig" if name == "effort" else name for name in dropped)
    return Sent(
        body=encode(request),
        model=model,
        stream=bool(asked.stream),
        path="/v1/messages",
        left_out=tuple(sorted(left)),
        names=changed_names((name for name, _ in tools), LONGEST_NAME),
        wants_thoughts=bool(thinking.include_thoughts),
    )


def _check(config: gemini.GenerationConfig, left: set[str]) -> None:
    TABLE.apply(config, left)
    if config.candidate_count is not None and config.candidate_count > 1:
        raise Unfit("candidateCount must be 1")
    if any(one.upper() != "TEXT" for one in config.response_modalities or ()):
        raise Unfit("responseModalities must be TEXT")


class _History:
    """Writes the conversation as turns of the Messages API."""

    def __init__(self, domain: str, left: set[str]) -> None:
        self.turns = TurnWriter()
        self._domain = domain
        self._left = left
        self._calls = 0
        self._awaited: dict[str, str] = {}
        """The names of calls that have no result yet, by id."""
        self._by_name: dict[str, deque[str]] = defaultdict(deque)
        """The ids of calls, by name. They may have a result."""

    def instruct(self, content: gemini.GeminiContent) -> None:
        """Add to the system prompt."""
        for part in content.parts:
            TABLE.apply(part, self._left)
            if part.text is None:
                raise Unfit("the system instruction holds something other than text")
            self.turns.system(part.text)

    def add(self, content: gemini.GeminiContent) -> None:
        if content.role == "system":
            self.instruct(content)
        elif content.role == "model":
            self._model(content.parts)
        else:
            blocks = [block for part in content.parts for block in self._users(part)]
            self.turns.add("user", blocks)

    def _users(self, part: gemini.GeminiPart) -> list[messages.Content]:
        TABLE.apply(part, self._left)
        if part.function_response is not None:
            self._result(part.function_response)
            return []
        if part.function_call is not None:
            raise Unfit("a user's turn holds a functionCall")
        return self._blocks(part)

    def _blocks(self, part: gemini.GeminiPart | gemini.ResponsePart) -> list[messages.Content]:
        if part.inline_data is not None:
            TABLE.apply(part.inline_data, self._left)
            return [_blob(part.inline_data)]
        if part.file_data is not None:
            TABLE.apply(part.file_data, self._left)
            return [_web_file(part.file_data)]
        text = part.text if isinstance(part, gemini.GeminiPart) else None
        if text is None:
            raise Unfit("a part holds neither text nor any known content")
        return text_blocks([text])

    def _model(self, parts: Sequence[gemini.GeminiPart]) -> None:
        self.turns.check_turn()
        blocks: list[messages.Content] = []
        has_thoughts = is_opened = False
        for part in parts:
            TABLE.apply(part, self._left)
            if (signature := part.thought_signature) and signature not in NO_SIGNATURES:
                thoughts = opened_thoughts(signature, self._domain)
                blocks += thoughts
                is_opened |= bool(thoughts)
                has_thoughts = True
            if part.thought:
                has_thoughts = True
            elif part.function_call is not None:
                blocks.append(self._call(part.function_call))
            elif part.function_response is not None:
                raise Unfit("a turn of the model holds a functionResponse")
            elif not part.thought_signature or (part.text, part.inline_data, part.file_data) != (None, None, None):
                blocks += self._blocks(part)
        if has_thoughts and not is_opened:
            self._left.add("thoughtSignature")
        self.turns.add("assistant", blocks)

    def _call(self, call: gemini.GeminiCall) -> messages.ToolUseContent:
        TABLE.apply(call, self._left)
        arguments = bytes(call.args)
        if arguments in {b"null", b""}:
            arguments = b"{}"
        if not arguments.startswith(b"{"):
            raise Unfit(f"the args of the call of {call.name[:80]!r} are not a JSON object")
        self._calls += 1
        known = call.id or made_up_id("gemini", self._calls)
        self._awaited[known] = call.name
        self._by_name[call.name].append(known)
        return self.turns.call(known, call.name, msgspec.Raw(arguments))

    def _result(self, result: gemini.FunctionResponse) -> None:
        TABLE.apply(result, self._left)
        known = result.id if result.id in self._awaited else self._first(result.name)
        if known is None:
            raise Unfit(f"the functionResponse of {result.name[:80]!r} has no functionCall right before it")
        del self._awaited[known]
        text, is_error = _result_text(result.response)
        files = [block for part in result.parts or () for block in self._file(part)]
        self.turns.result(known, [*text_blocks([text]), *files] if files else text, is_error=is_error)

    def _first(self, name: str) -> str | None:
        """Give the id of the first call of this name that has no result yet; None without one."""
        ids = self._by_name[name]
        while ids and ids[0] not in self._awaited:
            ids.popleft()
        return ids[0] if ids else None

    def _file(self, part: gemini.ResponsePart) -> list[messages.Content]:
        TABLE.apply(part, self._left)
        return self._blocks(part)


def _result_text(response: msgspec.Raw) -> tuple[str, bool]:
    """Give a function's result as text, and whether it is an error."""
    found = decode(response)
    if isinstance(found, dict) and len(found) == 1:
        ((name, value),) = found.items()
        if name in {"output", "result", "error"}:
            text = value if isinstance(value, str) else encode(value).decode()
            return text, name == "error"
    return encode(found).decode(), False


def _blob(blob: gemini.Blob) -> messages.Content:
    data = blob.data.replace("-", "+").replace("_", "/")  # Google's SDKs write base64 for URLs
    source = base64_source(blob.mime_type.partition(";")[0].strip(), data)
    kind = source.media_type
    if kind.startswith("image/"):
        return messages.ImageContent(source=source)
    if kind == _PDF:
        return messages.DocumentContent(source=source)
    if kind.startswith("text/"):
        try:
            text = b64decode(data, validate=True).decode()
        except (Error, ValueError):
            raise Unfit(f"a file of the type {kind[:40]!r} is not text in base64") from None
        return messages.DocumentContent(source=messages.TextSource(data=text))
    raise Unfit(f"files of the type {kind[:40]!r} can't be translated")


def _web_file(file: gemini.GeminiFile) -> messages.Content:
    kind = (file.mime_type or "").lower()
    if file.file_uri.startswith(_WEB) and _VENDORS_FILES not in file.file_uri:
        source = messages.UrlSource(url=file.file_uri)
        if kind.startswith("image/"):
            return messages.ImageContent(source=source)
        if kind == _PDF:
            return messages.DocumentContent(source=source)
    raise Unfit("a file by URL is neither an image nor a PDF document, or the vendor stores it")


_Tools = list[tuple[str, messages.FunctionTool]]
"""The tools, each with the name that the client gave it."""


def _tools(tools: Sequence[gemini.GeminiTool], quirks: Quirks, left: set[str]) -> _Tools:
    found: _Tools = []
    for tool in tools:
        TABLE.apply(tool, left)
        for declaration in tool.function_declarations or ():
            TABLE.apply(declaration, left)
            found.append((declaration.name, _function(declaration)))
        for field, name in _SERVERS.items():
            if getattr(tool, field) is UNSET:
                continue
            if not (quirks.drop and (field.startswith(quirks.drop) or name.startswith(quirks.drop))):
                raise Unfit(f"the server runs the tool {name}; list it in the mapping's drop to leave it out")
            left.add(name)
    return found


_SERVERS: Final = {
    field.name: field.encode_name
    for field in msgspec.structs.fields(gemini.GeminiTool)
    if field.name != "function_declarations"
}


def _function(declaration: gemini.FunctionDeclaration) -> messages.FunctionTool:
    schema = declaration.parameters_json_schema
    if schema is UNSET and declaration.parameters is not UNSET:
        schema = json_schema(declaration.parameters)
    return messages.FunctionTool(
        name=tool_name(declaration.name, LONGEST_NAME),
        description=declaration.description or None,
        input_schema=object_schema(schema),
    )


def _choice(
    config: gemini.ToolConfig | None, tools: _Tools, left: set[str]
) -> tuple[messages.ToolChoice | None, _Tools]:
    """Give the tool choice, and the tools that may be chosen. Raises `Unfit`."""
    if config is None:
        return None, tools
    TABLE.apply(config, left)
    calling = config.function_calling_config
    if calling is None:
        return None, tools
    TABLE.apply(calling, left)
    kind = _MODES.get(calling.mode or "")
    if calling.allowed_function_names and kind != "none":
        tools = [one for one in tools if one[0] in calling.allowed_function_names]
    if kind == "any" and not tools:
        raise Unfit("functionCallingConfig demands a call of a function that is not sent")
    if kind == "any" and len(tools) == 1:
        return messages.ToolChoice(type="tool", name=tools[0][1].name), tools
    return None if kind is None else messages.ToolChoice(type=kind), tools


def _format(config: gemini.GenerationConfig, turns: TurnWriter) -> messages.OutputConfig | None:
    kind = (config.response_mime_type or _TEXT).lower()
    if kind == _TEXT:
        return None
    if kind != _JSON:
        raise Unfit(f"responseMimeType {kind[:40]!r} can't be translated")
    if config.response_json_schema is not UNSET:
        schema = config.response_json_schema
    elif config.response_schema is not UNSET:
        schema = json_schema(config.response_schema)
    else:
        turns.instruct(_JSON_ONLY)
        return None
    return messages.OutputConfig(format=messages.OutputFormat(type="json_schema", schema=closed(schema)))


def _effort(thinking: gemini.GeminiThinking) -> str | None:
    if thinking.thinking_level is not None:
        level = thinking.thinking_level.lower()
        return None if level == "thinking_level_unspecified" else level
    budget = thinking.thinking_budget
    if budget is None:
        return None
    if budget == 0:
        return "none"
    return "medium" if budget < 0 else "low" if budget <= _LOW else "medium" if budget <= _MEDIUM else "high"
