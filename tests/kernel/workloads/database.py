# SPDX-License-Identifier: Apache-2.0
"""sqlite in WAL mode under load: its writers and readers share a mapped index and locks."""

import multiprocessing
import sqlite3

WRITERS = 4
TRANSACTIONS = 25


def connect() -> sqlite3.Connection:
    return sqlite3.connect("accounts.sqlite", timeout=120, isolation_level=None)


def write(number: int) -> None:
    database = connect()
    for step in range(TRANSACTIONS):
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO moves VALUES (?, ?)", (number, step))
        database.execute("UPDATE accounts SET balance = balance + 1 WHERE id = ?", (step % 5,))
        database.execute("COMMIT")
    database.close()


def main() -> None:
    database = connect()
    assert database.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    database.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER)")
    database.execute("CREATE TABLE moves (writer INTEGER, step INTEGER)")
    database.executemany("INSERT INTO accounts VALUES (?, 0)", [(each,) for each in range(5)])
    database.close()
    writers = [multiprocessing.Process(target=write, args=(each,)) for each in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    database = connect()
    (total,) = database.execute("SELECT sum(balance) FROM accounts").fetchone()
    assert total == WRITERS * TRANSACTIONS
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()
