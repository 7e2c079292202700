"""Requests and answers of `generateContent`. A field that only passes, like a schema, stays raw bytes."""

from typing import Any, Literal

from msgspec import UNSET, Raw, Struct

from tokenferry.wire._json import RequestPart, Unread


class _Part(RequestPart, rename="camel"):
    pass


class Blob(_Part):
    """A file within the request, in base64."""

    mime_type: str
    data: str
    display_name: Unread = UNSET


class GeminiFile(_Part):
    """A file that the vendor stores or fetches."""

    file_uri: str
    mime_type: str | None = None
    display_name: Unread = UNSET


class GeminiCall(_Part):
    """A `functionCall`."""

    name: str
    args: Raw = Raw(b"{}")
    id: str | None = None
    partial_args: Unread = UNSET
    will_continue: Unread = UNSET


class ResponsePart(_Part):
    """A file within a function's response."""

    inline_data: Blob | None = None
    file_data: GeminiFile | None = None
    media_resolution: Unread = UNSET
    media_processing: Unread = UNSET
    video_metadata: Unread = UNSET
    audio_metadata: Unread = UNSET
    document_metadata: Unread = UNSET
    spreadsheet_metadata: Unread = UNSET


class FunctionResponse(_Part):
    """The result of a call. It is matched by id if the call had one, otherwise by name."""

    name: str
    response: Raw
    id: str | None = None
    parts: list[ResponsePart] | None = None
    will_continue: Unread = UNSET
    scheduling: Unread = UNSET


class GeminiPart(_Part):
    """A text, a file, a call or a response, by the field that is set."""

    text: str | None = None
    inline_data: Blob | None = None
    file_data: GeminiFile | None = None
    function_call: GeminiCall | None = None
    function_response: FunctionResponse | None = None
    thought: bool | None = None
    """Whether the text is a thought of the model."""
    thought_signature: str | None = None
    executable_code: Unread = UNSET
    code_execution_result: Unread = UNSET
    tool_call: Unread = UNSET
    tool_response: Unread = UNSET
    media_resolution: Unread = UNSET
    media_processing: Unread = UNSET
    video_metadata: Unread = UNSET
    audio_metadata: Unread = UNSET
    audio_transcription: Unread = UNSET
    speech_metadata: Unread = UNSET
    document_metadata: Unread = UNSET
    spreadsheet_metadata: Unread = UNSET
    part_metadata: Unread = UNSET


class GeminiContent(_Part):
    """A turn of the user or the model, or a system instruction, which needs no role."""

    parts: list[GeminiPart]
    role: Literal["user", "model", "function", "system"] | None = None


class FunctionDeclaration(_Part):
    name: str
    description: str | None = None
    parameters: Unread = UNSET
    """In Google's subset of OpenAPI schemas, with types in capitals."""
    parameters_json_schema: Unread = UNSET
    response: Unread = UNSET
    response_json_schema: Unread = UNSET
    behavior: Unread = UNSET


class GeminiTool(_Part):
    """Functions of the client, or a tool that the server runs, by the field that is set."""

    function_declarations: list[FunctionDeclaration] | None = None
    google_search: Unread = UNSET
    google_search_retrieval: Unread = UNSET
    google_maps: Unread = UNSET
    url_context: Unread = UNSET
    code_execution: Unread = UNSET
    computer_use: Unread = UNSET
    file_search: Unread = UNSET
    retrieval: Unread = UNSET
    enterprise_web_search: Unread = UNSET
    parallel_ai_search: Unread = UNSET
    exa_ai_search: Unread = UNSET
    mcp_servers: Unread = UNSET


class FunctionCallingConfig(_Part):
    mode: Literal["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"] | None = None
    allowed_function_names: list[str] | None = None
    stream_function_call_arguments: Unread = UNSET


class ToolConfig(_Part):
    function_calling_config: FunctionCallingConfig | None = None
    retrieval_config: Unread = UNSET
    include_server_side_tool_invocations: Unread = UNSET


class GeminiThinking(_Part):
    """A `thinkingConfig`: a budget in tokens (0 is off, -1 automatic) or a level, not both."""

    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class GenerationConfig(_Part):
    max_output_tokens: int | None = None
    """Includes thinking."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    stop_sequences: list[str] | None = None
    candidate_count: int | None = None
    thinking_config: GeminiThinking | None = None
    response_mime_type: str | None = None
    response_json_schema: Unread = UNSET
    response_schema: Unread = UNSET
    response_format: Unread = UNSET
    response_modalities: list[str] | None = None
    response_logprobs: Unread = UNSET
    logprobs: Unread = UNSET
    seed: Unread = UNSET
    presence_penalty: Unread = UNSET
    frequency_penalty: Unread = UNSET
    media_resolution: Unread = UNSET
    speech_config: Unread = UNSET
    audio_timestamp: Unread = UNSET
    audio_transcription_config: Unread = UNSET
    translation_config: Unread = UNSET
    image_config: Unread = UNSET
    routing_config: Unread = UNSET
    model_selection_config: Unread = UNSET
    enable_affective_dialog: Unread = UNSET
    enable_enhanced_civic_answers: Unread = UNSET


class GenerateContentRequest(_Part):
    contents: list[GeminiContent]
    system_instruction: GeminiContent | None = None
    tools: list[GeminiTool] | None = None
    tool_config: ToolConfig | None = None
    generation_config: GenerationConfig | None = None
    model: str | None = None
    """Only in requests to count tokens; otherwise the path names the model."""
    stream: bool | None = None
    """Not a field of the API: the gateway sets it and `model` from the client's path."""
    safety_settings: Unread = UNSET
    cached_content: Unread = UNSET
    labels: Unread = UNSET
    store: Unread = UNSET
    service_tier: Unread = UNSET
    model_armor_config: Unread = UNSET


# Structs to be written have only the fields they need: each costs time, for every part of a long conversation.


class WrittenCall(_Part):
    name: str
    args: Raw
    id: str | None = None


class WrittenResponse(_Part):
    name: str
    response: dict[str, str]
    id: str | None = None
    parts: "list[WrittenPart] | None" = None


class WrittenPart(_Part):
    text: str | None = None
    function_call: WrittenCall | None = None
    function_response: WrittenResponse | None = None
    inline_data: Blob | None = None
    thought_signature: str | None = None


class WrittenContent(_Part):
    parts: list[WrittenPart]
    role: Literal["user", "model"] | None = None


class WrittenRequest(_Part):
    contents: list[WrittenContent]
    system_instruction: WrittenContent | None = None
    tools: list[GeminiTool] | None = None
    tool_config: ToolConfig | None = None
    generation_config: GenerationConfig | None = None
    model: str | None = None


# Answers may gain fields at any time, so unknown ones are skipped.


class AnswerCall(Struct, kw_only=True, rename="camel"):
    """A `functionCall` of an answer, with complete arguments."""

    name: str | None = None
    args: Raw = Raw(b"{}")
    id: str | None = None
    partial_args: Any = None


class AnswerPart(Struct, kw_only=True, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: AnswerCall | None = None


class AnswerTurn(Struct, kw_only=True):
    parts: list[AnswerPart] | None = None


class Candidate(Struct, kw_only=True, rename="camel"):
    index: int | None = None
    content: AnswerTurn | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class PromptFeedback(Struct, kw_only=True, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class GenerateContentAnswer(Struct, kw_only=True, rename="camel"):
    """A whole answer, or one event of a stream."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: Any = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None
