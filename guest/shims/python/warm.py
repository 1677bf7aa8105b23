"""The functions of the rehearsal: they do what functions do."""

import asyncio
import json
import sys


def handler(event, context):
    print("sample", event["count"], context.aws_request_id)
    print("sample", file=sys.stderr)
    left = context.get_remaining_time_in_millis()
    return {"statusCode": 200, "body": json.dumps({"left": left, "event": event})}


async def coroutine(event, context):
    await asyncio.sleep(0)
    return event


def failing(event):
    raise ValueError("sample")
