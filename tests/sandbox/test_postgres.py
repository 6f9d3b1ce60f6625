"""The embedded PostgreSQL: data after a crash and a restart, long and private folders, orphans."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from sandbox.postgres import EmbeddedPostgres
from sandbox.process import SandboxError, wait_until


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    yield server
    server.stop()


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return rows


def test_committed_rows_survive_a_kill(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    url = postgres.create_database("shop")
    run(url, "CREATE TABLE item (name text)")
    run(url, "INSERT INTO item VALUES ('lamp')")
    with closing(psycopg2.connect(url)) as connection:
        postgres.kill()
        assert not postgres.is_running
        with pytest.raises(psycopg2.OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    postgres.start()
    assert postgres.url("shop") == url
    assert run(url, "SELECT name FROM item") == [("lamp",)]


def test_kill_leaves_no_backend(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    family = psutil.Process(postgres.pid).children(recursive=True)
    assert family
    postgres.kill()
    for process in family:
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_restart_keeps_the_url_and_create_database_repeats(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    url = postgres.create_database()
    postgres.restart()
    assert postgres.create_database() == url
    assert str(run(url, "SHOW server_version")[0][0]).startswith("16.")
    postgres.drop_database("promptly")
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        psycopg2.connect(url)


def test_a_start_from_a_thread_outlives_the_thread(postgres: EmbeddedPostgres) -> None:
    starter = threading.Thread(target=postgres.start)
    starter.start()
    starter.join()
    assert run(postgres.url("postgres"), "SELECT 1") == [(1,)]


def test_a_stale_pid_file_with_the_id_of_another_process(
    postgres: EmbeddedPostgres,
) -> None:
    postgres.start()
    postgres.kill()
    pid_file = postgres.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    postgres.start()
    assert postgres.is_running


def test_a_long_path_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("long" * 25), durable=False)
    server.start()
    try:
        assert run(server.url("postgres"), "SELECT 1") == [(1,)]
        sockets = Path(server.url().split("host=")[1])
        assert not sockets.is_relative_to(tmp_path)
    finally:
        server.stop()
    assert not sockets.exists()


def test_a_closed_parent_folder_does_not_matter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "postgres", durable=False)
    server.start()
    try:
        assert run(server.url("postgres"), "SELECT 1") == [(1,)]
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()


def test_a_failed_start_shows_the_log(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path, settings={"max_connections": "many"})
    with pytest.raises(SandboxError, match="max_connections"):
        server.start()
    assert not server.is_running


def test_the_server_ends_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path\n"
        "from sandbox.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1]), durable=False); server.start()\n"
        "print(server.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    pid = int(answer.stdout)

    def ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(ended, 10, "the end of the orphan")


def test_a_machine_with_hardly_any_shared_memory(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "dynamic_shared_memory_type" not in postgres._settings
    monkeypatch.setattr("sandbox.postgres.SHARED_MEMORY_BYTES", 2**60)
    server = EmbeddedPostgres(postgres.directory, durable=False)
    server.start()
    try:
        assert run(server.url("postgres"), "SHOW dynamic_shared_memory_type") == [("mmap",)]
    finally:
        server.stop()
