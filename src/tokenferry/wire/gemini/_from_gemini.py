"""Requests of Gemini's `generateContent` as ones of the Messages API."""

from base64 import b64decode
from binascii import Error
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from tokenferry.errors import Unfit
from tokenferry.wire._codec import Sent
from tokenferry.wire._field_handling import FieldHandlings, FieldTable, kept, left_out, unfit
from tokenferry.wire._ids import changed_names, made_up_id, tool_name
from tokenferry.wire._json import RequestReader, decode, encode
from tokenferry.wire._quirks import Quirks
from tokenferry.wire._schema import closed
from tokenferry.wire.gemini import _models as gemini
from tokenferry.wire.gemini._openapi_schema import json_schema
from tokenferry.wire.gemini._spelling import complete
from tokenferry.wire.gemini._thoughts import NO_SIGNATURES, opened_thoughts
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.messages._sampling import ask_for_thinking, limit_sampling
from tokenferry.wire.messages._turns import LONGEST_NAME, TurnWriter, text_blocks

_VENDORS: Final = kept(
    "always unfit: the file is the vendor's, or one that it fetches; images and PDFs by URL are kept"
)
_HINT: Final = left_out("how the vendor reads the file")
_SERVER: Final = kept("a tool that the server runs: unfit, or dropped where the mapping says so")
_RAN: Final = unfit("what a tool of the server's did")
_OTHER_MEDIA: Final = unfit("text alone")
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
        "contents": kept("neighbours of one role become one turn"),
        "system_instruction": kept("`system`"),
        "tools": kept("functions"),
        "tool_config": kept("`tool_choice`"),
        "generation_config": kept(),
        "model": kept("the target's model"),
        "stream": kept("what the path says; no field of the API"),
        "safety_settings": left_out("the model's vendor has its own"),
        "cached_content": unfit("the vendor keeps it: send the whole conversation as `contents`"),
        "labels": left_out("they may name a person"),
        "store": left_out(),
        "service_tier": left_out(),
        "model_armor_config": unfit("a check that the vendor runs"),
    },
    gemini.GeminiContent: {
        "role": kept("`model` is the assistant; `system` amid the conversation a user's text in tags"),
        "parts": kept(),
    },
    gemini.GeminiPart: {
        "text": kept("without empty texts"),
        "inline_data": kept("images, PDF documents and texts; others: unfit"),
        "file_data": _VENDORS,
        "function_call": kept("`tool_use`; a call without an id gets one"),
        "function_response": kept("`tool_result`; each call has exactly one, else unfit"),
        "thought": kept("left out: what the model wants back is in a signature"),
        "thought_signature": kept("`thinking` with its signature, of the model that is asked; of any other left out"),
        "executable_code": _RAN,
        "code_execution_result": _RAN,
        "tool_call": _RAN,
        "tool_response": _RAN,
        **_FILE,
        "audio_transcription": _HINT,
        "speech_metadata": _HINT,
        "part_metadata": left_out(),
    },
    gemini.Blob: {"mime_type": kept(), "data": kept(), "display_name": left_out()},
    gemini.GeminiFile: {
        "file_uri": kept("an image's or a PDF's on the web"),
        "mime_type": kept(),
        "display_name": left_out(),
    },
    gemini.GeminiCall: {
        "name": kept(),
        "args": kept(),
        "id": kept(),
        "partial_args": unfit("a call in pieces"),
        "will_continue": unfit("a call in pieces"),
    },
    gemini.FunctionResponse: {
        "name": kept("finds the call where there is no id"),
        "response": kept("`output` or `result` alone as its text; `error` alone with `is_error`; else as JSON"),
        "id": kept(),
        "parts": kept("images and PDF documents in the result"),
        "will_continue": unfit("a result in pieces"),
        "scheduling": left_out(),
    },
    gemini.ResponsePart: {"inline_data": kept(), "file_data": _VENDORS, **_FILE},
    gemini.GeminiTool: {
        "function_declarations": kept(),
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
        "name": kept("changed where it is too long or has odd characters, and given back whole"),
        "description": kept(),
        "parameters": kept("as JSON schema"),
        "parameters_json_schema": kept("as it is"),
        "response": left_out(),
        "response_json_schema": left_out(),
        "behavior": left_out(),
    },
    gemini.ToolConfig: {
        "function_calling_config": kept("auto, any, a tool, none; of allowed names alone the others are not sent"),
        "retrieval_config": left_out(),
        "include_server_side_tool_invocations": left_out(),
    },
    gemini.FunctionCallingConfig: {
        "mode": kept("`VALIDATED` as auto"),
        "allowed_function_names": kept(),
        "stream_function_call_arguments": left_out("a call comes whole"),
    },
    gemini.GenerationConfig: {
        "max_output_tokens": kept("`max_tokens`; without, the model's own limit or 32,000"),
        "temperature": kept("at most 1; left out where the model takes none"),
        "top_p": kept("beside a temperature left out"),
        "top_k": kept(),
        "stop_sequences": kept("without those of white space alone"),
        "candidate_count": kept("more than one: unfit"),
        "thinking_config": kept("`thinking` where the model takes it and the conversation allows it, else left out"),
        "response_mime_type": kept("text; JSON by its schema, or by an instruction where there is none; others: unfit"),
        "response_json_schema": kept("`output_config.format`; every object is closed"),
        "response_schema": kept("the same, as JSON schema"),
        "response_format": _OTHER_MEDIA,
        "response_modalities": kept("all but text: unfit"),
        "response_logprobs": unfit(),
        "logprobs": left_out("means nothing without `responseLogprobs`"),
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
        "include_thoughts": kept("without, the thoughts are in the signatures alone"),
        "thinking_budget": kept(
            "0 is off; up to 4,096 a low effort, up to 16,384 and -1 a medium one, else a high one"
        ),
        "thinking_level": kept("the effort of that name"),
    },
}

TABLE: Final = FieldTable(FIELD_HANDLINGS)
_LIMIT: Final = 32_000
_LOW, _MEDIUM = 4096, 16_384
_MODES: Final[dict[str, Any]] = {"AUTO": "auto", "VALIDATED": "auto", "ANY": "any", "NONE": "none"}
_EMPTY_SCHEMA: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_JSON_ONLY: Final = "Answer with JSON and with nothing else."
_JSON: Final = "application/json"
_TEXT: Final = "text/plain"
_PDF: Final = "application/pdf"
_WEB: Final = ("https://", "http://")
_VENDORS_FILES: Final = "generativelanguage.googleapis.com"


_reader: Final = RequestReader(gemini.GenerateContentRequest, complete=complete)


def from_gemini(body: bytes, model: str, quirks: Quirks, domain: str, *, is_last: bool) -> Sent:
    """The request for an upstream that calls the model so. Raises `Unfit`.

    Claude's own rules hold if this codec `is_last`, so that Claude gets what it writes.
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
    limit = config.max_output_tokens or quirks.max_output_tokens or _LIMIT
    request = messages.MessagesRequest(
        model=model,
        messages=turns,
        max_tokens=limit if quirks.max_output_tokens is None else min(limit, quirks.max_output_tokens),
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
    may_think = history.turns.may_think or not is_last
    thinking = config.thinking_config or gemini.GeminiThinking()
    dropped = ask_for_thinking(_effort(thinking), request, quirks, may_think=may_think, is_last=is_last)
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
        raise Unfit("candidateCount: one answer at a time")
    if any(one.upper() != "TEXT" for one in config.response_modalities or ()):
        raise Unfit("responseModalities: text alone")


class _History:
    """The conversation as it is written."""

    def __init__(self, domain: str, left: set[str]) -> None:
        self.turns = TurnWriter()
        self._domain = domain
        self._left = left
        self._calls = 0
        self._awaited: list[tuple[str, str]] = []
        """The ids and the names of calls without a result yet."""

    def instruct(self, content: gemini.GeminiContent) -> None:
        """Add to the system prompt."""
        for part in content.parts:
            TABLE.apply(part, self._left)
            if part.text is None:
                raise Unfit("the system instruction holds what is no text")
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
            raise Unfit("a part holds neither text nor anything else that is known")
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
                raise Unfit("a turn of the model's holds a functionResponse")
            elif part.text is not None or not part.thought_signature:
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
            raise Unfit(f"the args of the call of {call.name[:80]!r} are no object")
        self._calls += 1
        known = call.id or made_up_id("gemini", self._calls)
        self._awaited.append((known, call.name))
        return self.turns.call(known, call.name, msgspec.Raw(arguments))

    def _result(self, result: gemini.FunctionResponse) -> None:
        TABLE.apply(result, self._left)
        ids = [known for known, name in self._awaited if known == result.id] if result.id else []
        ids = ids or [known for known, name in self._awaited if name == result.name]
        if not ids:
            raise Unfit(f"the functionResponse of {result.name[:80]!r} has no functionCall right before it")
        self._awaited = [one for one in self._awaited if one[0] != ids[0]]
        text, is_error = _told(result.response)
        files = [block for part in result.parts or () for block in self._file(part)]
        self.turns.result(ids[0], [*text_blocks([text]), *files] if files else text, is_error=is_error)

    def _file(self, part: gemini.ResponsePart) -> list[messages.Content]:
        TABLE.apply(part, self._left)
        return self._blocks(part)


def _told(response: msgspec.Raw) -> tuple[str, bool]:
    """What a function gave, and whether that is an error."""
    found = decode(response)
    if isinstance(found, dict) and len(found) == 1:
        ((name, value),) = found.items()
        if name in {"output", "result", "error"}:
            text = value if isinstance(value, str) else encode(value).decode()
            return text, name == "error"
    return encode(found).decode(), False


def _blob(blob: gemini.Blob) -> messages.Content:
    kind = blob.mime_type.partition(";")[0].strip().lower()
    source = messages.Base64Source(media_type=kind, data=blob.data)
    if kind.startswith("image/"):
        return messages.ImageContent(source=source)
    if kind == _PDF:
        return messages.DocumentContent(source=source)
    if kind.startswith("text/"):
        try:
            text = b64decode(blob.data).decode()
        except (Error, ValueError):
            raise Unfit(f"a file of the type {kind[:40]!r} is no text in base64") from None
        return messages.DocumentContent(source=messages.TextSource(data=text))
    raise Unfit(f"a file of the type {kind[:40]!r}")


def _web_file(file: gemini.GeminiFile) -> messages.Content:
    kind = (file.mime_type or "").lower()
    if file.file_uri.startswith(_WEB) and _VENDORS_FILES not in file.file_uri:
        source = messages.UrlSource(url=file.file_uri)
        if kind.startswith("image/"):
            return messages.ImageContent(source=source)
        if kind == _PDF:
            return messages.DocumentContent(source=source)
    raise Unfit("a file of the vendor's, or one that is neither an image nor a PDF document on the web")


_Tools = list[tuple[str, messages.FunctionTool]]
"""By what the client calls each."""


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
            if not (quirks.drop and field.startswith(quirks.drop)) and not (
                quirks.drop and name.startswith(quirks.drop)
            ):
                raise Unfit(f"the server's tool {name}")
            left.add(name)
    return found


_SERVERS: Final = {
    field.name: field.encode_name
    for field in msgspec.structs.fields(gemini.GeminiTool)
    if field.name != "function_declarations"
}


def _function(declaration: gemini.FunctionDeclaration) -> messages.FunctionTool:
    if declaration.parameters_json_schema is not UNSET:
        schema = declaration.parameters_json_schema
    elif declaration.parameters is not UNSET and bytes(declaration.parameters) != b"null":
        schema = json_schema(declaration.parameters)
    else:
        schema = _EMPTY_SCHEMA
    name = tool_name(declaration.name, LONGEST_NAME)
    return messages.FunctionTool(name=name, description=declaration.description or None, input_schema=schema)


def _choice(
    config: gemini.ToolConfig | None, tools: _Tools, left: set[str]
) -> tuple[messages.ToolChoice | None, _Tools]:
    """How a tool is to be chosen, and those that it may be. Raises `Unfit`."""
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
        raise Unfit(f"responseMimeType {kind[:40]!r}")
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
