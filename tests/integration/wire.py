# SPDX-License-Identifier: Apache-2.0
# Runs: tests (root, or the user it is told to be). A second implementation of the wire, from the tables' text alone.
#
# It shares no code with common/wire.c, so a mistake there is not repeated here, and it checks nothing: a hostile
# peer must be able to say what the C encoder would refuse to say.
import array
import os
import re
import socket
import struct

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEADER = struct.Struct("<HHI")
REQUEST, REPLY, ERROR = 0, 1, 2
NUMBERS = {"U8": "B", "U16": "H", "U32": "I", "U64": "Q", "FLAGS": "I"}


def _read_tables(path):
    with open(path, encoding="ascii") as f:
        text = f.read()
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S).replace("\\\n", " ")
    macros = {}
    for name, body in re.findall(r"^#define (\w+)(?:\([^)]*\))?[ \t]*(.*)$", text, flags=re.M):
        macros[name] = body.strip()
    return macros


class Tables:
    """messages.h as data."""

    def __init__(self, path=os.path.join(ROOT, "common", "messages.h")):
        macros = _read_tables(path)
        self.constants = {"UINT32_MAX": 2**32 - 1, "UINT64_MAX": 2**64 - 1}
        for name, body in macros.items():
            number = re.fullmatch(r"(0x[0-9a-fA-F]+|\d+)u?", body)
            if name.startswith("WIRE_") and number:
                self.constants[name] = int(number.group(1), 0)
        self.messages = {}
        for name, body in macros.items():
            if name.startswith("MSG_"):
                self.messages[name[4:]] = [
                    (kind, [a.strip() for a in args.split(",")])
                    for kind, args in re.findall(r"\b(U8|U16|U32|U64|FLAGS|NAME|TEXT|BYTES|SUB)\s*\(([^)]*)\)", body)
                ]
        self.ops = {}
        self.op_rows = []
        for row in re.findall(r"X\(([^)]*)\)", macros["WIRE_OPS"]):
            cells = [c.strip() for c in row.split(",")]
            self.ops[cells[1]] = int(cells[0])
            self.op_rows.append(cells)
        self.steps = re.findall(r"X\((\w+),", macros["WIRE_STEPS"])
        self.step_texts = dict(re.findall(r'X\((\w+),\s*"([^"]*)"\)', macros["WIRE_STEPS"]))
        self.errors = re.findall(r"X\((\w+)\)", macros["WIRE_ERRORS"])
        self.outcomes = re.findall(r"X\((\w+),", macros["WIRE_OUTCOMES"])
        self.grants = re.findall(r"X\((\w+),", macros["WIRE_GRANTS"])

    def number(self, text):
        text = text.strip()
        return self.constants[text] if text in self.constants else int(text.rstrip("u"), 0)

    def size(self, message):
        return len(self.pack(message, {}))

    def pack(self, message, values):
        out = b""
        for kind, args in self.messages[message]:
            name = args[0]
            value = values.get(name)
            if kind in NUMBERS:
                low = self.number(args[1]) if kind != "FLAGS" else 0
                value = low if value is None else value
                out += struct.pack("<" + NUMBERS[kind], value & (2 ** (8 * struct.calcsize(NUMBERS[kind])) - 1))
            elif kind == "SUB":
                count = self.number(args[1])
                subs = value if isinstance(value, list) else [] if value is None else [value]
                out += b"".join(self.pack(args[2], subs[i] if i < len(subs) else {}) for i in range(count))
            else:
                size = self.number(args[1])
                value = b"" if value is None else value.encode() if isinstance(value, str) else bytes(value)
                out += value[:size].ljust(size, b"\0")
        return out

    def unpack(self, message, data):
        values, offset = self._unpack(message, data, 0)
        if offset != len(data):
            raise ValueError("%s: %d bytes, expected %d" % (message, len(data), offset))
        return values

    def _unpack(self, message, data, offset):
        values = {}
        for kind, args in self.messages[message]:
            name = args[0]
            if kind in NUMBERS:
                code = "<" + NUMBERS[kind]
                (values[name],) = struct.unpack_from(code, data, offset)
                offset += struct.calcsize(code)
            elif kind == "SUB":
                subs = []
                for _ in range(self.number(args[1])):
                    sub, offset = self._unpack(args[2], data, offset)
                    subs.append(sub)
                values[name] = subs[0] if self.number(args[1]) == 1 else subs
            else:
                size = self.number(args[1])
                raw = data[offset : offset + size]
                values[name] = raw if kind == "BYTES" else raw.split(b"\0")[0].decode("ascii")
                offset += size
        return values, offset

    def row(self, op):
        for cells in self.op_rows:
            if op in (cells[1], int(cells[0])):
                return {"number": int(cells[0]), "name": cells[1], "link": cells[2], "from": cells[3],
                        "request": cells[4], "fds": cells[5], "reply": cells[6], "reply_fds": cells[7],
                        "phases": cells[8]}
        raise KeyError(op)


T = Tables()


class Refused(Exception):
    """The broker answered with an error message."""

    def __init__(self, msg):
        self.code = T.errors[msg["code"]] if msg["code"] < len(T.errors) else "?"
        self.step = T.steps[msg["step"]] if msg["step"] < len(T.steps) else "?"
        self.number, self.object = msg["number"], msg["object"]
        super().__init__("%s step %s number %d object %s" % (self.code, self.step, self.number, self.object))


class Hangup(Exception):
    """The other side closed."""


def message(op, values=None, kind=REQUEST, sequence=1):
    row = T.row(op)
    body = {REQUEST: row["request"], REPLY: row["reply"], ERROR: "error"}[kind]
    return HEADER.pack(row["number"], kind, sequence) + T.pack(body, values or {})


def send_raw(sock, data, fds=()):
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    return sock.sendmsg([data], control, socket.MSG_NOSIGNAL)


def recv(sock, timeout=10):
    """(name, kind, sequence, values, fds); Hangup at the end."""
    sock.settimeout(timeout)
    try:
        data, control, flags, _ = sock.recvmsg(65536, socket.CMSG_SPACE(4 * 128), socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # told once, before what the peer had still sent
        data, control, flags, _ = sock.recvmsg(65536, socket.CMSG_SPACE(4 * 128), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, raw in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
    if not data:
        raise Hangup("closed")
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise ValueError("truncated message")
    number, kind, sequence = HEADER.unpack_from(data)
    row = T.row(number)
    body = {REQUEST: row["request"], REPLY: row["reply"], ERROR: "error"}[kind]
    return row["name"], kind, sequence, T.unpack(body, data[HEADER.size :]), list(fds)


class Session:
    """A client of the broker. uid, gid, groups: who it is while it connects (the caller must be root)."""

    def __init__(self, path, uid=None, gid=None, groups=(), hello=True):
        self.sequence = 0
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with as_user(uid, gid, groups):
                self.sock.connect(path)
            if hello:
                self.hello = self.call("HELLO", {"version": T.constants["WIRE_VERSION"]})[0]
        except BaseException:
            self.sock.close()
            raise

    def send(self, op, values=None, fds=()):
        self.sequence += 1
        send_raw(self.sock, message(op, values, sequence=self.sequence), fds)

    def call(self, op, values=None, fds=(), timeout=10):
        try:
            self.send(op, values, fds)
        except BrokenPipeError:  # whoever has no rule is told so unasked, and the connection ends
            pass
        name, kind, sequence, reply, got = recv(self.sock, timeout)
        if kind == ERROR:
            raise Refused(reply)
        if (name, kind, sequence) != (op, REPLY, self.sequence):
            raise ValueError("answer to something else: %s %d %d" % (name, kind, sequence))
        return reply, got

    def ended(self, timeout=5):
        """True when the broker closes this session within the timeout."""
        try:
            while True:
                for fd in recv(self.sock, timeout)[4]:
                    os.close(fd)
        except Hangup:
            return True
        except (TimeoutError, socket.timeout):
            return False

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class as_user:
    """Effective ids of somebody else for a moment: what SO_PEERCRED and SO_PEERGROUPS record at connect()."""

    def __init__(self, uid, gid=None, groups=()):
        self.uid, self.gid, self.groups = uid, uid if gid is None else gid, list(groups)

    def __enter__(self):
        if self.uid is not None:
            self.saved = os.getgroups()
            os.setgroups(self.groups)
            os.setegid(self.gid)
            os.seteuid(self.uid)

    def __exit__(self, *_):
        if self.uid is not None:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(self.saved)
