"""The mail server of tests/servers: `aiosmtpd --class smtpsink.MailDirectory DIR` writes each message to a file of its own."""

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
        return "235 2.7.0 whoever you are"

    async def handle_DATA(self, server, session, envelope):
        path = self.directory / f"{time.time_ns()}-{next(self.number)}.eml"
        part = path.with_suffix(".part")
        part.write_bytes(envelope.content)
        part.rename(path)  # a reader that sees the name sees the whole message
        return "250 OK"
