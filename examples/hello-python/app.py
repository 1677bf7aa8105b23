"""Greets whoever the event names. The returned value is the result; printed lines are the invocation's logs."""

import platform


def handler(event, context):
    name = (event or {}).get("name", "World")
    print(f"greeting {name}")
    return {
        "message": f"Hello, {name}, from Python {platform.python_version()}!",
        "request_id": context.aws_request_id,
        "remaining_ms": context.get_remaining_time_in_millis(),
    }
