"""The mail server of tests/servers: `aiosmtpd --class smtpsink.MailDirectory DIR` writes each message to a file of its own."""

import base64
import itertools
import pathlib
import time


class MailDirectory:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.number = itertools.count()

    @classmethod
    def from_cli(cls, parser, *args):
        if len(args) != 1:
            parser.error("smtpsink.MailDirectory takes one directory")
        return cls(*args)

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        server._auth_require_tls = False  # nothing leaves this machine
        return [*responses[:-1], "250-AUTH PLAIN", responses[-1]]

    async def handle_AUTH(self, server, session, envelope, args):
        user = base64.b64decode(args[-1]).split(b"\0")[1] if len(args) == 2 else b""
        return "535 5.7.8 nobody is not let in" if user == b"nobody" else "235 2.7.0 whoever else you are"

    async def handle_DATA(self, server, session, envelope):
        path = self.directory / f"{time.time_ns()}-{next(self.number)}.eml"
        part = path.with_suffix(".part")
        part.write_bytes(envelope.content)
        part.rename(path)  # a reader that sees the name sees the whole message
        return "250 OK"
