"""Runs bqemulator so that it holds: python serve_bigquery.py REST_PORT GRPC_PORT, on 127.0.0.1.

As it comes, bqemulator 1.4.0 uses one DuckDB connection from its event loop and from
the threads of the Storage Write API at once, and hangs when the two meet. Here all
that touches the connection runs on the event loop, one call after another. What is
changed of the package is changed from outside, below, one reason each; the version
is pinned, and another one is refused.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

WANT = "1.4.0"
if version("bqemulator") != WANT:
    sys.exit(f"bqemulator {version('bqemulator')} is installed, and {WANT} is what this knows")

import fastapi.dependencies.utils
import fastapi.routing
from bqemulator.config import LogLevel, Settings
from bqemulator.domain.events import TableDataChanged
from bqemulator.grpc_api.write_servicer import BigQueryWriteHandler
from bqemulator.server import EmulatorServer
from bqemulator.storage.engine import DuckDBEngine
from bqemulator.versioning.snapshots import SnapshotManager


async def inline(function, /, *args, **kwargs):
    """Calls on the event loop what FastAPI would call on a thread."""
    return function(*args, **kwargs)


fastapi.routing.run_in_threadpool = inline
fastapi.dependencies.utils.run_in_threadpool = inline


def on_loop(method, loop):
    """Returns a method of the write handler's that runs on the event loop, and not
    while the loop is within a statement that it has to wait for."""

    def call(self, *args):
        async def run():
            async with self._ctx.engine.write_lock():
                return method(self, *args)

        return asyncio.run_coroutine_threadsafe(run(), loop).result()

    return call


# Only the first request of a connection must name its stream, and Go's client leaves
# the name out of the others:
# https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1#appendrowsrequest
bind = BigQueryWriteHandler._ensure_stream_bound


def ensure_stream_bound(self, stream, bound, context):
    return bound if bound and not stream else bind(self, stream, bound, context)


BigQueryWriteHandler._ensure_stream_bound = ensure_stream_bound


# The emulator copies the whole table after every append, for time travel, which no test
# uses.
def record_change(self, project, dataset, table):
    self._events.publish(TableDataChanged(project, dataset, table))


SnapshotManager.record_change = record_change


# Installing the extension would download it, even if it is there already. The packages of
# the extension are pinned in bqemulator-requirements.txt.
def load_spatial(self):
    from duckdb_extensions import import_extension

    import_extension("spatial")
    self.connection.execute("LOAD spatial")


DuckDBEngine._load_spatial = load_spatial


async def serve(rest_port, grpc_port):
    loop = asyncio.get_running_loop()
    # Each open stream of the Storage Write API needs a thread of its own.
    loop.set_default_executor(ThreadPoolExecutor(1000))
    BigQueryWriteHandler._flush_to_target = on_loop(BigQueryWriteHandler._flush_to_target, loop)
    server = EmulatorServer(
        Settings(rest_port=rest_port, grpc_port=grpc_port, log_level=LogLevel.WARNING, enable_format_extensions=False,
                 query_cache_ttl_seconds=0)
    )
    await server.start()
    await asyncio.Event().wait()  # the tests kill the emulator when they end


asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
