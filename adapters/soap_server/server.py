"""SOAP 1.1 over HTTP, with a WSDL and WS-Security.

POST /            an envelope                      200 an envelope, or 500 with a soap:Fault
GET  /?wsdl       the WSDL; `/NAME` the XSD that it names
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from adapters.soap_server import bad
from adapters.soap_server.messages import SERVER, Call, Contract, Fault, parsed
from adapters.soap_server.security import Guard
from adapters.stand_in.server import Handler, SwitchedHandler, SwitchedServer

XML = "text/xml; charset=utf-8"

Work = Callable[[Call], Mapping[str, Any]]
"""An operation: what it answers, or Fault."""


class SoapServer(SwitchedServer):
    """`work`: what each operation does, asked for with the first call."""

    faults = (*SwitchedServer.faults, *("clock", "busy", "error"), *bad.ANSWERS)
    """clock: its clock is an hour off; busy: the fault DANG_BAN; error: a fault of its own. The others: see
    `bad.ANSWERS`."""

    def __init__(
        self,
        contract: Contract,
        guard: Guard,
        work: Callable[[], Mapping[str, Work]],
        port: int = 0,
        control_port: int | None = None,
    ) -> None:
        self.contract, self._guard, self._work = contract, guard, work
        super().__init__(port, control_port)

    def handler(self) -> type[Handler]:
        return type("Soap", (_Soap,), {"server_of": self})

    def answer(self, content: bytes) -> tuple[int, bytes]:
        """Status and envelope for one request."""
        try:
            envelope = parsed(content)
            self._guard.check(envelope)
            call = self.contract.read(envelope)
            return 200, self.contract.reply(call.operation, self._work()[call.operation](call))
        except Fault as fault:
            return 500, self.contract.fault(fault)

    def switch(self, kind: str, delay_s: float = 1.0) -> None:
        super().switch(kind, delay_s)
        self._guard.off = timedelta(hours=1) if kind == "clock" else timedelta()


class _Soap(SwitchedHandler):
    server_of: SoapServer  # type: ignore[misc]  # of this kind

    def do_GET(self) -> None:
        contract = self.server_of.contract
        file = contract.files.get(contract.wsdl if self.path == "/?wsdl" else self.path[1:])
        self.answer(200 if file else 404, file or b"", XML)

    def do_POST(self) -> None:
        content = self.content()
        if content is None:
            return
        server, switched = self.server_of, self.server_of.switched
        server.asked()
        if self.held_up(switched):
            return
        kind = switched.kind
        if kind in _FAULTS:
            self.answer(500, server.contract.fault(_FAULTS[kind]), XML)
            return
        status, envelope = server.answer(content)
        if kind == "cut":
            self.close_connection = True
        elif kind == "trickle":
            self.trickle(switched, envelope, XML)
        elif kind in bad.ANSWERS:
            answer = bad.ANSWERS[kind](envelope)
            self.answer(answer.status, answer.body, answer.type, **answer.headers)
        else:
            self.answer(status, envelope, XML)


_FAULTS = {
    "busy": Fault("DANG_BAN", "Hệ thống đang bận, xin thử lại", SERVER),
    "error": Fault("LOI_HE_THONG", "Lỗi hệ thống", SERVER),
}
