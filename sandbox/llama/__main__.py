"""Run the simulated llama-server: ``python -m sandbox.llama``."""

import argparse
import asyncio
import contextlib
import signal
from pathlib import Path

from sandbox.files import write_atomically
from sandbox.llama.generation import Pace
from sandbox.llama.router import Router
from sandbox.llama.server import Options, Server


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.llama", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port-file", type=Path, help="where to write the port once it listens")
    parser.add_argument("--crash-file", type=Path, help="where a crash leaves the records")
    parser.add_argument("--slots", type=int, default=4, help="requests running at the same time")
    parser.add_argument("--ctx", type=int, default=32768, help="tokens per slot")
    parser.add_argument("--alias", default="sim-model", help="name of the model")
    parser.add_argument("--api-key", default="", help="comma-separated keys; none: open to all")
    parser.add_argument("--speed", type=float, default=0.0, help="tokens/s; 0: unlimited")
    parser.add_argument("--prompt-speed", type=float, default=0.0, help="tokens/s; 0: unlimited")
    parser.add_argument("--prompt-batch", type=int, default=2048, help="tokens of a prompt's batch")
    parser.add_argument("--cache-ram", type=int, default=0, help="MiB for prompts of no slot")
    parser.add_argument("--no-slots", action="store_true", help="do not serve /slots")
    parser.add_argument("--answer-tokens", type=int, default=48, help="length of an answer")
    parser.add_argument("--ping-interval", type=float, default=30.0, help="seconds of silence")
    parser.add_argument("--embeddings", action="store_true", help="serve /v1/embeddings")
    parser.add_argument("--models", help="comma-separated: be a router of these models")
    parser.add_argument("--loaded", type=int, default=0, help="of them, loaded at the start")
    parser.add_argument("--models-max", type=int, default=4, help="of them, loaded at a time")
    parser.add_argument("--load-seconds", type=float, default=0.0, help="to load a model")
    parser.add_argument("--broken", default="", help="comma-separated models that do not load")
    parser.add_argument("--batch", type=int, default=512, help="tokens of one text to embed")
    return parser.parse_args()


def make_server(arguments: argparse.Namespace, options: Options) -> Server:
    """Return the server, or the router if it is to have several models."""
    if not arguments.models:
        return Server(options)
    return Router(
        options,
        arguments.models.split(","),
        loaded=arguments.loaded,
        most=arguments.models_max,
        load_seconds=arguments.load_seconds,
        broken=frozenset(arguments.broken.split(",")),
    )


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    pace = Pace(
        arguments.speed, arguments.prompt_speed, arguments.prompt_batch, arguments.ping_interval
    )
    options = Options(
        slots=arguments.slots,
        ctx=arguments.ctx,
        alias=arguments.alias,
        api_key=arguments.api_key,
        answer_tokens=arguments.answer_tokens,
        embeddings=arguments.embeddings,
        batch=arguments.batch,
        cache_ram=arguments.cache_ram,
        shows_slots=not arguments.no_slots,
        pace=pace,
        crash_file=arguments.crash_file,
    )
    server = make_server(arguments, options)
    await server.listen(arguments.port, arguments.host)
    if arguments.port_file is not None:
        write_atomically(arguments.port_file, f"{server.port}\n")
    print(f"simulated llama-server on http://127.0.0.1:{server.port}", flush=True)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parse_arguments()))
