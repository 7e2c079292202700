import json
from typing import Any

from tokenferry.secret import Fields, json_fault


def read_object(content: bytes) -> Fields | str:
    """One JSON object, read with Python's lenient parser; or a text with the reason why it can't be read.

    Unlike `parse_object` it accepts Infinity and NaN, because the programs explained here fail on them later.
    """
    try:
        value: Any = json.loads(content.decode("utf-8"), object_hook=Fields)
    except UnicodeDecodeError:
        return "it isn't UTF-8"
    except json.JSONDecodeError as fault:
        return f"it isn't JSON: {json_fault(fault)}"
    except (ValueError, RecursionError):
        return "it is JSON that can't be read"
    return value if isinstance(value, Fields) else "it isn't a JSON object"
