import json
from typing import Any

from tokenferry.secret import Fields


def read_object(content: bytes) -> Fields | str:
    """One JSON object, read with Python's lenient parser; or the reason why there is none, as text.

    Unlike `parse_object` it accepts Infinity and NaN, because the programs explained here fail on them later.
    """
    try:
        value: Any = json.loads(content.decode("utf-8"), object_hook=Fields)
    except UnicodeDecodeError:
        return "it is no UTF-8"
    except json.JSONDecodeError as fault:
        return f"it is no JSON: {fault.msg} in line {fault.lineno}"
    except (ValueError, RecursionError):
        return "it is no JSON that can be read"
    return value if isinstance(value, Fields) else "it is no JSON object"
