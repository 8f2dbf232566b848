"""What neither the document nor the tester can say of two headers."""

import re
import uuid

import schemathesis

KEY = re.compile(r"[!-~]{1,255}")
WORD = re.compile(r"[A-Za-z0-9]+")


@schemathesis.hook
def before_call(context, case, kwargs):
    headers = case.headers or {}
    for name, value in list(headers.items()):
        # One key is for one request: its second use is refused.
        if name.lower() == "idempotency-key" and isinstance(value, str) and KEY.fullmatch(value):
            headers[name] = f"{value[:200]}{uuid.uuid4()}"
        # What covers the schema makes headers of letters and digits only; an entity tag has quotes.
        if name.lower() == "if-match" and isinstance(value, str) and WORD.fullmatch(value):
            headers[name] = f'"{value}"'
