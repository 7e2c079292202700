"""How codecs handle the fields of a Messages request; each codec declares where it differs."""

from typing import Final

from tokenferry.wire._field_handling import FieldHandlings, left_out, translated, unfit
from tokenferry.wire.messages import _models as messages

_MARK: Final = left_out("it is a hint for prompt caches")
_CITED: Final = left_out("the text is sent")
_SERVER: Final = left_out("it is a hint for tools that the server runs")

HANDLINGS: Final[FieldHandlings] = {
    messages.MessagesRequest: {
        "model": translated("becomes the target's model"),
        "messages": translated(),
        "max_tokens": translated("at most the model's limit"),
        "system": translated("without Claude Code's billing header"),
        "tools": translated("only functions"),
        "tool_choice": translated("becomes `tool_choice` and `parallel_tool_calls`"),
        "stop_sequences": translated(),
        "stream": translated(),
        "temperature": translated("left out if the model refuses it"),
        "top_p": translated("left out if the model refuses it"),
        "top_k": left_out(by_codec=True),
        "thinking": translated("left out if the model does not take it"),
        "output_config": translated(),
        "metadata": left_out("it may name a person's account"),
        "mcp_servers": unfit("the server runs these tools"),
        "thread": unfit("the server stores this conversation"),
        "container": left_out("it is for tools that the server runs"),
        "context_management": left_out("the whole conversation is sent"),
        "compaction": left_out("the whole conversation is sent"),
        "cache_control": _MARK,
        "service_tier": left_out(),
        "speed": left_out(),
        "inference_geo": unfit("it restricts where the data goes"),
        "diagnostics": left_out(),
        "billing_policy": left_out(),
        "fallbacks": left_out("the gateway has its own"),
        "fallback_credit_token": left_out(),
        "betas": left_out(),
        "anthropic_version": left_out(),
        "user_profile_id": left_out(),
        "workspace_id": left_out(),
    },
    messages.Turn: {
        "role": translated(),
        "content": translated(),
    },
    messages.TextContent: {"text": translated(), "cache_control": _MARK, "citations": _CITED},
    messages.ImageContent: {
        "source": translated("unfit by file id, and for a model that takes no images"),
        "cache_control": _MARK,
        "transformations": left_out(),
    },
    messages.Base64Source: {"media_type": translated(), "data": translated("as a data URL")},
    messages.UrlSource: {"url": translated()},
    messages.FileSource: {"file_id": unfit("the file is stored at another vendor", by_codec=True)},
    messages.TextSource: {"data": translated("becomes text"), "media_type": translated()},
    messages.ContentSource: {"content": translated("text and images")},
    messages.DocumentContent: {
        "source": translated("text becomes text; a PDF document is unfit if the model takes none"),
        "title": translated("precedes the text"),
        "context": translated("precedes the text"),
        "cache_control": _MARK,
        "citations": _CITED,
    },
    messages.SearchResultContent: {
        "source": translated("precedes the text"),
        "title": translated("precedes the text"),
        "content": translated("becomes text"),
        "cache_control": _MARK,
        "citations": _CITED,
    },
    messages.ToolReferenceContent: {"tool_name": translated("becomes text"), "cache_control": _MARK},
    messages.ThinkingContent: {
        "thinking": translated("sent to the model that wrote it; otherwise left out"),
        "signature": translated("identifies the model that wrote the thinking"),
        "cache_control": _MARK,
    },
    messages.RedactedThinkingContent: {"data": left_out(by_codec=True), "cache_control": _MARK},
    messages.ToolUseContent: {
        "id": translated("replaced if the vendor does not accept it"),
        "name": translated(),
        "input": translated("becomes JSON in a string"),
        "cache_control": _MARK,
        "caller": _SERVER,
        "toolset_name": _SERVER,
    },
    messages.ToolResultContent: {
        "tool_use_id": translated("unfit unless each call has exactly one result"),
        "content": translated(),
        "is_error": translated("the text begins with `[tool error]`"),
        "cache_control": _MARK,
        "toolset_name": _SERVER,
    },
    messages.FunctionTool: {
        "name": translated("a long name is shortened, and restored in the answer"),
        "input_schema": translated("unchanged"),
        "description": translated(),
        "type": translated("any type but `custom` is unfit, or left out if the mapping's `drop` names it"),
        "strict": translated("left out unless every object of the schema has `additionalProperties: false`"),
        "cache_control": _MARK,
        "allowed_callers": _SERVER,
        "defer_loading": left_out("every tool is sent"),
        "eager_input_streaming": left_out(),
        "input_examples": left_out("the schema and the description are sent"),
    },
    messages.ToolChoice: {
        "type": translated("becomes auto, required, a function or none"),
        "name": translated(),
        "disable_parallel_tool_use": translated("becomes `parallel_tool_calls`"),
    },
    messages.ThinkingConfig: {
        "type": translated(),
        "budget_tokens": translated("up to 4,096 becomes effort low, up to 16,384 medium, more high"),
        "display": left_out(),
        "block_binding": left_out(),
    },
    messages.OutputConfig: {
        "effort": translated("left out if the model does not take it"),
        "format": translated(),
        "task_budget": left_out(),
    },
    messages.OutputFormat: {
        "type": translated(),
        "schema": translated("`strict` is set if every object has `additionalProperties: false`"),
    },
}
