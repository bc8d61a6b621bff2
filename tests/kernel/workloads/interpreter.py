# SPDX-License-Identifier: Apache-2.0
"""An interpreter with threads, processes and an event loop, over files, pipes and sockets."""

import asyncio
import multiprocessing
import sys
import threading
from pathlib import Path

ROUNDS = 20
WORKERS = 4


def append(path: Path, word: str) -> None:
    for number in range(ROUNDS):
        with path.open("a") as file:
            file.write(f"{word} {number}\n")


def threads() -> None:
    paths = [Path(f"thread-{number % 2}") for number in range(WORKERS)]
    started = [
        threading.Thread(target=append, args=(path, f"thread{number}"))
        for number, path in enumerate(paths)
    ]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    lines = [line for path in set(paths) for line in path.read_text().splitlines()]
    assert len(lines) == WORKERS * ROUNDS


def serve(numbers: "multiprocessing.Queue[int]", squares: "multiprocessing.Queue[int]") -> None:
    while (number := numbers.get()) >= 0:
        append(Path("squares"), str(number))
        squares.put(number * number)


def processes() -> None:
    numbers: multiprocessing.Queue[int] = multiprocessing.Queue()
    squares: multiprocessing.Queue[int] = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=serve, args=(numbers, squares)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(WORKERS):
        numbers.put(number)
    found = sorted(squares.get() for _ in range(WORKERS))
    for _ in workers:
        numbers.put(-1)
    for worker in workers:
        worker.join()
    assert found == [number * number for number in range(WORKERS)]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def ask(port: int, number: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(ROUNDS):
        writer.write(f"hello {number}\n".encode())
        assert await reader.readline() == f"HELLO {number}\n".encode()
    writer.close()


async def event_loop() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*(ask(port, number) for number in range(WORKERS)))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", "print('child')", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate()
    assert output == b"child\n"
    server.close()


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    threads()
    processes()
    asyncio.run(event_loop())
