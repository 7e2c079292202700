"""What becomes of a Messages request's fields in most formats; each codec says where its own differs."""

from typing import Final

from tokenferry.wire._field_handling import FieldHandlings, kept, left_out, unfit
from tokenferry.wire.messages import _models as messages

_MARK: Final = left_out("a hint for prompt caches")
_CITED: Final = left_out("the text is kept")
_SERVER: Final = left_out("a hint for tools that the server runs")

HANDLINGS: Final[FieldHandlings] = {
    messages.MessagesRequest: {
        "model": kept("the target's model"),
        "messages": kept(),
        "max_tokens": kept("at most the model's own limit"),
        "system": kept("a block with Claude Code's billing header is dropped"),
        "tools": kept("functions"),
        "tool_choice": kept("`tool_choice`, `parallel_tool_calls`"),
        "stop_sequences": kept(),
        "stream": kept(),
        "temperature": kept("unless the model refuses it"),
        "top_p": kept("unless the model refuses it"),
        "top_k": kept("always left out"),
        "thinking": kept("where the model takes it, else left out"),
        "output_config": kept(),
        "metadata": left_out("it may name a person's account"),
        "mcp_servers": unfit("tools that the server runs"),
        "thread": unfit("a conversation that the server keeps"),
        "container": left_out("only for tools that the server runs"),
        "context_management": left_out("the whole conversation is sent"),
        "compaction": left_out("the whole conversation is sent"),
        "cache_control": _MARK,
        "service_tier": left_out(),
        "speed": left_out(),
        "inference_geo": unfit("a promise about where the data goes"),
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
        "role": kept(),
        "content": kept(),
    },
    messages.TextContent: {"text": kept(), "cache_control": _MARK, "citations": _CITED},
    messages.ImageContent: {
        "source": kept("by file id: unfit; unfit where the model takes no images"),
        "cache_control": _MARK,
        "transformations": left_out(),
    },
    messages.Base64Source: {"media_type": kept(), "data": kept("a data URL")},
    messages.UrlSource: {"url": kept()},
    messages.FileSource: {"file_id": kept("always unfit: the file is the vendor's")},
    messages.TextSource: {"data": kept("text"), "media_type": kept()},
    messages.ContentSource: {"content": kept("text and images")},
    messages.DocumentContent: {
        "source": kept("text as text; PDF where the model takes it, else unfit"),
        "title": kept("before the text"),
        "context": kept("before the text"),
        "cache_control": _MARK,
        "citations": _CITED,
    },
    messages.SearchResultContent: {
        "source": kept("before the text"),
        "title": kept("before the text"),
        "content": kept("text"),
        "cache_control": _MARK,
        "citations": _CITED,
    },
    messages.ToolReferenceContent: {"tool_name": kept("as text"), "cache_control": _MARK},
    messages.ThinkingContent: {
        "thinking": kept("for the model that it came from; else left out"),
        "signature": kept("says what model the thinking came from"),
        "cache_control": _MARK,
    },
    messages.RedactedThinkingContent: {"data": kept("always left out"), "cache_control": _MARK},
    messages.ToolUseContent: {
        "id": kept("changed where the vendor takes only some ids"),
        "name": kept(),
        "input": kept("JSON in a text"),
        "cache_control": _MARK,
        "caller": _SERVER,
        "toolset_name": _SERVER,
    },
    messages.ToolResultContent: {
        "tool_use_id": kept("each call has exactly one result, else unfit"),
        "content": kept(),
        "is_error": kept("the text begins with `[tool error]`"),
        "cache_control": _MARK,
        "toolset_name": _SERVER,
    },
    messages.FunctionTool: {
        "name": kept("shortened where it is too long, and given back whole"),
        "input_schema": kept("as it is"),
        "description": kept(),
        "type": kept("all but `custom`: unfit, or dropped where the mapping says so"),
        "strict": kept("if every object of the schema is closed"),
        "cache_control": _MARK,
        "allowed_callers": _SERVER,
        "defer_loading": left_out("every tool is sent"),
        "eager_input_streaming": left_out(),
        "input_examples": left_out("the schema and the description are kept"),
    },
    messages.ToolChoice: {
        "type": kept("auto, required, a function, none"),
        "name": kept(),
        "disable_parallel_tool_use": kept("`parallel_tool_calls`"),
    },
    messages.ThinkingConfig: {
        "type": kept(),
        "budget_tokens": kept("up to 4,096 low, up to 16,384 medium, else high"),
        "display": left_out(),
        "block_binding": left_out(),
    },
    messages.OutputConfig: {
        "effort": kept("where the model takes it, else left out"),
        "format": kept(),
        "task_budget": left_out(),
    },
    messages.OutputFormat: {"type": kept(), "schema": kept("`strict` if every object is closed")},
}
