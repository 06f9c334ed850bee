"""Alarms to a real HTTP server on this machine, well and unwell."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from voxfleet.cluster.budgets import alarm as alarm_module
from voxfleet.cluster.budgets import governor as governor_module
from voxfleet.cluster.budgets.alarm import BadWebhook, alarms_to
from voxfleet.cluster.budgets.governor import Governor
from voxfleet.cluster.ledger import Run
from voxfleet.cluster.ledgers.sqlite import SqliteLedger
from voxfleet.cluster.prices.price import Price

TOY = Price("toy", "", "", "on-demand", Decimal(1000), 2, "", 0, "paper", date(2026, 11, 1))


class Server(ThreadingHTTPServer):
    """Keeps what is posted to it, and answers with `status` once it may."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posted: list[dict[str, str]] = []
        self.status, self.may_answer = 200, threading.Event()
        self.may_answer.set()

    @property
    def url(self) -> str:
        """Where alarms go, with a secret in it."""
        return f"http://127.0.0.1:{self.server_address[1]}/hook?key=s3cret"


class Handler(BaseHTTPRequestHandler):
    """Answers a POST."""

    server: Server

    def do_POST(self) -> None:
        """Keep the body."""
        self.server.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.may_answer.wait()
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that listens."""
    found = Server()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.may_answer.set()
    found.shutdown()
    found.server_close()


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    """A run named r, whose one node is up."""
    found = SqliteLedger(tmp_path / "ledger.sqlite")
    found.create_run(Run("r", "dir:/s", "dir:/t", ("m 1",), {}, "0", "toy", datetime.now(UTC)))
    found.node_up("n", "toy", "o")
    return found


def test_each_share_of_the_budget_is_told_once(server: Server, ledger: SqliteLedger, monkeypatch) -> None:
    """Of 5 dollars, 2, 4.20 and 4.90 spent pass 80 % after 50 %, then 95 %; the next command tells none of it again."""
    spent = [Decimal(0)]
    monkeypatch.setattr(governor_module, "spent_on_lives", lambda lived, price: spent[0])
    with alarms_to(server.url) as alarm:
        governor = Governor(ledger, TOY, Decimal(5), Event(), alarm=alarm)
        for usd in ("2", "4.20", "4.20", "4.90"):
            spent[0] = Decimal(usd)
            assert governor.spent_usd == spent[0]
    told = {each["text"].split()[0]: each for each in server.posted}
    assert sorted(told) == ["50%", "80%", "95%"]
    assert len(server.posted) == 3
    assert told["95%"]["spent_usd"] == "4.900000"
    assert (told["95%"]["run"], told["95%"]["kind"], told["95%"]["budget_usd"]) == ("r", "budget_alarm", "5")
    assert datetime.fromisoformat(told["95%"]["at"]).tzinfo is not None
    again = Governor(ledger, TOY, Decimal(5), Event(), alarm=lambda _: pytest.fail("told twice"))
    assert again.spent_usd == spent[0]


@pytest.mark.parametrize("status", [404, 500])
def test_a_server_that_refuses_is_a_line_in_the_log(server: Server, caplog, status: int) -> None:
    """The run goes on, and the log shows the code and not the address, which may hold a secret."""
    server.status = status
    with caplog.at_level(logging.WARNING), alarms_to(server.url) as alarm:
        assert alarm is not None
        alarm({"text": "x"})
    assert len(server.posted) == 1
    assert str(status) in caplog.text
    assert "s3cret" not in caplog.text


def test_a_server_that_is_gone_stops_nothing(caplog) -> None:
    """Nobody listens there: sending returns at once and raises nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # without listening: nobody else gets the port meanwhile
        url = f"http://127.0.0.1:{free.getsockname()[1]}/s3cret"
        with caplog.at_level(logging.WARNING), alarms_to(url) as alarm:
            assert alarm is not None
            alarm({"text": "x"})
    assert "ConnectionError" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_server_that_hangs_is_waited_for_in_the_background(server: Server, monkeypatch, caplog) -> None:
    """A server that never answers delays neither the run nor, by more than a time that is known, its end."""
    monkeypatch.setattr(alarm_module, "TIMEOUT_S", (5.0, 0.5))
    server.may_answer.clear()
    gone_on = threading.Event()
    post = alarm_module.requests.post

    def once_the_run_goes_on(*words: Any, **options: Any) -> Any:
        assert gone_on.wait(60)
        return post(*words, **options)

    monkeypatch.setattr(alarm_module.requests, "post", once_the_run_goes_on)
    with alarms_to(server.url) as alarm:
        assert alarm is not None
        alarm({"text": "x"})
        gone_on.set()
    assert not server.may_answer.is_set()
    assert "ReadTimeout" in caplog.text


@pytest.mark.parametrize("url", ["hooks.example.org/key", "ftp://example.org/key", "http:///key"])
def test_what_is_no_address_is_refused_before_any_work(url: str) -> None:
    """Without a scheme, with another one, without a host; the message does not show it."""
    with pytest.raises(BadWebhook) as raised, alarms_to(url):
        pass
    assert "key" not in str(raised.value)


def test_no_address_no_alarm() -> None:
    """Where none is asked for, there is nothing to call."""
    with alarms_to("") as alarm:
        assert alarm is None
