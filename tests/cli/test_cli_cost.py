"""`waitd cost` with a real daemon, `waitd cost whatif` with an export and a fake Airflow."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from cli_process import Run, assert_fails

from waitd.cli.cost import parse_since

HISTORY = """dag_id,task_id,operator,start,end,poke_interval,mode
orders,wait,HttpSensor,2026-11-01T00:00:00Z,2026-11-01T01:00:00Z,60,poke
orders,wait,HttpSensor,2026-11-02T00:00:00Z,2026-11-02T02:00:00Z,60,reschedule
landing,file,S3KeySensor,2026-11-02T00:00:00Z,2026-11-02T00:30:00Z,30,defer
orders,load,PythonOperator,2026-11-02T02:00:00Z,2026-11-02T02:01:00Z,,
"""


@pytest.fixture
def cli(waitd: Run, daemon: str) -> Run:
    return lambda *arguments, **options: waitd(*arguments, WAITD_URL=daemon, **options)


@pytest.fixture
def history(tmp_path: Path) -> str:
    file = tmp_path / "history.csv"
    file.write_text(HISTORY)
    return str(file)


def test_the_costs_of_waits_are_summed_and_printed(cli: Run, jobs: str, tmp_path: Path) -> None:
    waits = [
        {"kind": "http", "params": {"endpoint": f"{jobs}/succeed/0/cost{n}"}, "labels": {"dag_id": "costly"}}
        for n in range(3)
    ]
    done = cli("submit", "-", "--wait", input=json.dumps(waits))
    assert done.returncode == 0, done.stderr
    report = json.loads(cli("cost", "--by", "dag_id", "--json").stdout)
    (row,) = [row for row in report["rows"] if row["name"] == "costly"]
    assert (row["waits"], row["pokes"]) == (3, 3)
    assert row["reschedule"]["cpu_seconds"] == pytest.approx(3 * 0.342)
    assert 0 < row["waitd"]["cpu_seconds"] < 0.1
    assert row["waitd"]["slot_seconds"] == 0
    text = cli("cost", "--by", "dag_id").stdout
    for word in ("MODE", "poke", "reschedule", "defer", "waitd", "waitd itself", "costly", "computed"):
        assert word in text
    wait_id = done.stdout.split()[0]
    assert "Cost" in cli("show", wait_id).stdout
    for name in ("slots.png", "slots.svg"):
        assert cli("cost", "--plot", str(tmp_path / name)).returncode == 0
    assert (tmp_path / "slots.png").read_bytes().startswith(b"\x89PNG")
    assert "waitd, " in (tmp_path / "slots.svg").read_text() or "<svg" in (tmp_path / "slots.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--since", "yesterday"), 2, "7d"),
        (("--since", "99999999d"), 2, "7d"),
        (("--by", "run_id"), 1, "/by"),
        (("--plot", "slots.pdf"), 2, ".svg"),
        (("--plot", "/nowhere/slots.png"), 2, "no such directory"),
    ],
)
def test_invalid_arguments_are_refused(cli: Run, arguments: tuple[str, ...], code: int, message: str) -> None:
    assert_fails(cli("cost", *arguments), code, message)


def test_since_takes_a_date_or_a_number_of_days() -> None:
    from datetime import date

    assert parse_since("7d", date(2026, 11, 21)) == "2026-11-14"
    assert parse_since("2026-11-01", date(2026, 11, 21)) == "2026-11-01"


def test_an_exports_cost_is_computed_in_each_mode(waitd: Run, history: str, tmp_path: Path) -> None:
    done = waitd("cost", "whatif", history, "--json", "--plot", str(tmp_path / "slots.svg"))
    assert done.returncode == 0, done.stderr
    assert "1 tasks that are not sensors" in done.stderr
    report = json.loads(done.stdout)
    total = report["total"]
    assert (total["waits"], total["wait_seconds"], total["pokes"]) == (3, 12_600, 61 + 121 + 61)
    assert total["poke"]["slot_seconds"] == pytest.approx(12_600 + 3 * 0.9)
    assert total["reschedule"]["cpu_seconds"] == pytest.approx(182 * 0.342 + 61 * 0.514)
    assert total["waitd"]["slot_seconds"] == pytest.approx(3 * 2 * 0.9)
    assert [row["name"] for row in report["rows"]] == ["orders", "landing"]
    assert report["actual"]["slot_seconds"] == pytest.approx(3600 + 0.9 + 121 * 0.9 + 2 * 0.9)
    assert (tmp_path / "slots.svg").read_text().lstrip().startswith("<?xml")
    text = waitd("cost", "whatif", "-", "--by", "operator", input=HISTORY).stdout
    for word in (
        "3 sensors",
        "S3KeySensor",
        "In the modes they ran in",
        "a Triggerer itself",
        "waitd itself",
        "a model",
    ):
        assert word in text


def test_days_limits_the_history_and_prices_come_from_the_settings(waitd: Run, history: str) -> None:
    done = waitd(
        "cost",
        "whatif",
        history,
        "--days",
        "1",
        "--json",
        WAITD_COST__SLOT_HOUR="2",
        WAITD_COST__CURRENCY="EUR",
    )
    report = json.loads(done.stdout)
    assert (report["total"]["waits"], report["currency"]) == (2, "EUR")
    assert report["total"]["poke"]["cost"] == pytest.approx(2 * 2.5, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (("-",), HISTORY.replace("2026-11-01T01:00:00Z", "soon"), "-:2: end is not an ISO 8601 time: 'soon'"),
        (("-",), "a,b\n1,2\n", "-:1: the header lacks dag_id"),
        (("-",), "", "-: the export is empty"),
        ((), "", "give either a FILE"),
        (("-", "--airflow-conn-id", "a"), "", "give either a FILE"),
        (("nowhere.csv",), "", "cannot read nowhere.csv"),
        (("-", "--by", "moon"), HISTORY, "--by moon"),
    ],
)
def test_a_mistake_is_reported_with_its_line(
    waitd: Run, arguments: tuple[str, ...], text: str, message: str
) -> None:
    assert_fails(waitd("cost", "whatif", *arguments, input=text), 2, message)


def test_an_export_without_sensors_is_an_error(waitd: Run) -> None:
    export = HISTORY.splitlines()[0] + "\na,b,BashOperator,2026-11-01,2026-11-01,,\n"
    assert_fails(waitd("cost", "whatif", "-", input=export), 1)


def test_without_matplotlib_the_extra_to_install_is_named(tmp_path: Path) -> None:
    program = "import sys; sys.modules['matplotlib'] = None\nfrom waitd.cli import app\napp()"
    done = subprocess.run(
        [sys.executable, "-c", program, "cost", "whatif", "-", "--plot", "slots.png"],
        input=HISTORY, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert_fails(done, 2, "waitd[plot]")


class FakeAirflowApi(BaseHTTPRequestHandler):
    """Answers like Airflow's API v2: a token for a login, and pages of task instances."""

    queries: ClassVar[list[dict[str, list[str]]]] = []

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        is_valid = json.loads(self.rfile.read(length)) == {"username": "admin", "password": "planted"}
        self._answer(201 if is_valid else 401, {"access_token": "t"} if is_valid else {"detail": "no"})

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if self.headers["Authorization"] != "Bearer t":
            self._answer(401, {"detail": "Token Expired"})
            return
        assert url.path == "/api/v2/dags/~/dagRuns/~/taskInstances"
        self.queries.append(query)
        offset = int(query["offset"][0])
        tasks = [self._task(n) for n in range(250)]
        self._answer(200, {"task_instances": tasks[offset : offset + 100], "total_entries": len(tasks)})

    def _task(self, number: int) -> dict[str, Any]:
        start = time.time() - 86_400 + number
        return {
            "dag_id": "orders", "task_id": f"t{number}", "operator": None if number == 7 else "HttpSensor",
            "operator_name": "HttpSensor", "state": "success", "start_date": _iso(start),
            "end_date": None if number == 3 else _iso(start + 600), "map_index": -1,
        }  # fmt: skip

    def _answer(self, status: int, body: Any) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_: object) -> None:
        pass


def _iso(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


@pytest.fixture
def airflow() -> Iterator[str]:
    FakeAirflowApi.queries.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeAirflowApi)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def connection(address: str, password: str = "planted") -> str:
    host, _, port = address.partition(":")
    return json.dumps(
        {
            "conn_type": "airflow",
            "host": f"http://{host}",
            "port": int(port),
            "login": "admin",
            "password": password,
        }
    )


def test_an_airflows_sensors_are_fetched_page_by_page(waitd: Run, airflow: str) -> None:
    done = waitd("cost", "whatif", "--airflow-conn-id", "af", "--json", AIRFLOW_CONN_AF=connection(airflow))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["total"]["waits"], report["actual"]) == (249, None)
    assert report["total"]["pokes"] == 249 * 11
    assert [query["offset"] for query in FakeAirflowApi.queries] == [["0"], ["100"], ["200"]]
    assert "planted" not in done.stdout + done.stderr


def test_an_unusable_airflow_is_an_error_message(waitd: Run, airflow: str, unused_url: str) -> None:
    for variables in ({"AIRFLOW_CONN_AF": connection(airflow, "wrong")}, {"AIRFLOW_CONN_AF": unused_url}, {}):
        assert_fails(waitd("cost", "whatif", "--airflow-conn-id", "af", **variables), 1, "af: ")
