"""Every field of a request has one handling, and the page says which."""

from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from anthropic.types import beta as anthropic_types
from anthropic.types.beta import message_create_params as anthropic_params
from msgspec import inspect
from openai.types import chat as openai_types
from openai.types import responses as responses_types
from openai.types import shared_params as openai_shared
from openai.types.chat import completion_create_params as openai_params
from openai.types.responses import response_create_params as responses_params
from openai.types.responses import response_input_param as responses_input

from tokenferry.wire._field_handling import FieldTable
from tokenferry.wire.chat import _models as chat
from tokenferry.wire.chat._from_chat import TABLE as FROM_CHAT
from tokenferry.wire.chat._to_chat import TABLE as TO_CHAT
from tokenferry.wire.gemini import _models as gemini
from tokenferry.wire.gemini._from_gemini import TABLE as FROM_GEMINI
from tokenferry.wire.gemini._to_gemini import TABLE as TO_GEMINI
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.responses import _models as responses
from tokenferry.wire.responses._from_responses import TABLE as FROM_RESPONSES
from tokenferry.wire.responses._to_responses import TABLE as TO_RESPONSES

ROOT = Path(__file__).parents[2]


def structs(shape: Any, seen: set[Any]) -> Iterator[Any]:
    """Every struct that a type reaches."""
    if isinstance(shape, inspect.StructType):
        if shape.cls not in seen:
            seen.add(shape.cls)
            yield shape.cls
            for field in shape.fields:
                yield from structs(field.type, seen)
    elif isinstance(shape, inspect.UnionType):
        for one in shape.types:
            yield from structs(one, seen)
    elif isinstance(shape, inspect.ListType):
        yield from structs(shape.item_type, seen)


@pytest.mark.parametrize(
    ("table", "request_type"),
    [
        (TO_CHAT, messages.MessagesRequest),
        (FROM_CHAT, chat.ChatRequest),
        (TO_RESPONSES, messages.MessagesRequest),
        (FROM_RESPONSES, responses.ResponsesRequest),
        (FROM_GEMINI, gemini.GenerateContentRequest),
        (TO_GEMINI, messages.MessagesRequest),
    ],
)
def test_every_field_that_a_request_can_have_is_in_one_row(table: FieldTable, request_type: Any) -> None:
    reached = set(structs(inspect.type_info(request_type), set()))
    assert {kind.__name__: sorted(table.handlings[kind]) for kind in reached} == {
        kind.__name__: sorted(kind.__struct_fields__) for kind in reached
    }
    assert set(table.handlings) == reached
    assert all(kind.__struct_config__.forbid_unknown_fields for kind in reached), "or unknown ones are lost in silence"


@pytest.mark.parametrize(("table"), [TO_CHAT, FROM_CHAT, TO_RESPONSES, FROM_RESPONSES, TO_GEMINI, FROM_GEMINI])
def test_each_field_that_no_codec_reads_is_one_that_the_table_reads(table: FieldTable) -> None:
    for kind, fields in table.handlings.items():
        defaults = {field.name: field.default for field in msgspec.structs.fields(kind)}
        assert [
            name for name, handling in fields.items() if not handling.by_codec and defaults[name] is not msgspec.UNSET
        ] == []


@pytest.mark.parametrize(
    ("known", "theirs"),
    [
        (messages.MessagesRequest, anthropic_params.MessageCreateParamsBase),
        (messages.TextContent, anthropic_types.BetaTextBlockParam),
        (messages.ImageContent, anthropic_types.BetaImageBlockParam),
        (messages.DocumentContent, anthropic_types.BetaRequestDocumentBlockParam),
        (messages.SearchResultContent, anthropic_types.BetaSearchResultBlockParam),
        (messages.ToolReferenceContent, anthropic_types.BetaToolReferenceBlockParam),
        (messages.ThinkingContent, anthropic_types.BetaThinkingBlockParam),
        (messages.RedactedThinkingContent, anthropic_types.BetaRedactedThinkingBlockParam),
        (messages.ToolUseContent, anthropic_types.BetaToolUseBlockParam),
        (messages.ToolResultContent, anthropic_types.BetaToolResultBlockParam),
        (messages.FunctionTool, anthropic_types.BetaToolParam),
        (messages.OutputConfig, anthropic_types.BetaOutputConfigParam),
        (messages.ThinkingConfig, anthropic_types.BetaThinkingConfigEnabledParam),
        (chat.ChatRequest, openai_params.CompletionCreateParamsBase),
        (chat.AssistantMessage, openai_types.ChatCompletionAssistantMessageParam),
        (chat.UserMessage, openai_types.ChatCompletionUserMessageParam),
        (chat.ToolMessage, openai_types.ChatCompletionToolMessageParam),
        (chat.TextPart, openai_types.ChatCompletionContentPartTextParam),
        (chat.ImagePart, openai_types.ChatCompletionContentPartImageParam),
        (chat.StreamOptions, openai_types.ChatCompletionStreamOptionsParam),
        (responses.ResponsesRequest, responses_params.ResponseCreateParamsBase),
        (responses.MessageItem, responses_types.EasyInputMessageParam),
        (responses.MessageItem, responses_types.ResponseOutputMessageParam),
        (responses.ReasoningItem, responses_types.ResponseReasoningItemParam),
        (responses.FunctionCallItem, responses_types.ResponseFunctionToolCallParam),
        (responses.FunctionCallOutputItem, responses_input.FunctionCallOutput),
        (responses.CustomToolCallItem, responses_types.ResponseCustomToolCallParam),
        (responses.CustomToolCallOutputItem, responses_types.ResponseCustomToolCallOutputParam),
        (responses.AdditionalToolsItem, responses_input.AdditionalTools),
        (responses.InputText, responses_types.ResponseInputTextParam),
        (responses.InputImage, responses_types.ResponseInputImageParam),
        (responses.InputFile, responses_types.ResponseInputFileParam),
        (responses.OutputText, responses_types.ResponseOutputTextParam),
        (responses.ResponsesTool, responses_types.FunctionToolParam),
        (responses.ResponsesTool, responses_types.CustomToolParam),
        (responses.ResponsesTool, responses_types.NamespaceToolParam),
        (responses.ResponsesToolChoice, responses_types.ToolChoiceAllowedParam),
        (responses.ReasoningConfig, openai_shared.Reasoning),
        (responses.TextConfig, responses_types.ResponseTextConfigParam),
        (responses.TextFormat, responses_types.ResponseFormatTextJSONSchemaConfigParam),
    ],
)
def test_the_fields_of_the_vendors_own_sdk_are_known(known: Any, theirs: Any) -> None:
    config = known.__struct_config__
    assert get_type_hints(theirs).keys() <= {*known.__struct_encode_fields__, config.tag_field, "stream"}


def test_what_is_sent_to_chat_has_fields_of_the_vendors_sdk_alone() -> None:
    """farion1231/cc-switch#3841 and others: fields that leak are refused. `top_k` is sent on a vendor's quirk alone."""
    theirs = {*get_type_hints(openai_params.CompletionCreateParamsBase), "stream"}
    foreign = {"system", "instructions", "input"}  # read, so that a request of another API is refused, and never sent
    assert {FROM_CHAT.handlings[chat.ChatRequest][name].word for name in foreign} == {"unfit"}
    assert set(chat.ChatRequest.__struct_fields__) - theirs - foreign == {"top_k"}
    roles = {str(get_args(get_type_hints(one)["role"])[0]) for one in get_args(openai_types.ChatCompletionMessageParam)}
    assert {str(one.__struct_config__.tag) for one in get_args(chat.ChatMessage)} <= roles


def test_what_is_sent_to_responses_has_fields_of_the_vendors_sdk_alone() -> None:
    """CaddyGlow/ccproxy-api#59, decolua/9router#1468: fields that leak are refused. `client_metadata` is Codex's."""
    theirs = {*get_type_hints(responses_params.ResponseCreateParamsBase), "stream"}
    assert set(responses.ResponsesRequest.__struct_fields__) - theirs == {"client_metadata"}
    kinds = {
        str(get_args(kind)[0])
        for one in get_args(responses_input.ResponseInputItemParam)
        if (kind := get_type_hints(one)["type"])
    }
    ours = {str(one.__struct_config__.tag) for one in get_args(responses.InputItem)}
    assert ours - kinds <= {"item_reference"}, "whose type may be missing"


def test_the_tables_of_the_page_are_made_from_the_declarations() -> None:
    spec = spec_from_file_location("formats_page", ROOT / "scripts" / "formats_page.py")
    assert spec is not None
    assert spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    text = script.PAGE.read_text()
    assert script.page(text) == text, "run: .venv/bin/python scripts/formats_page.py"
    assert text.count("| unfit |") > 5
