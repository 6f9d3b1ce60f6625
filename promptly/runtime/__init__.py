"""Infrastructure of the process: PostgreSQL, Redis, Celery, gunicorn and logging.

- `address_counts`: open connections or requests per client address, over all workers
- `bad_requests`: statuses of requests that gunicorn cannot parse
- `batching`: runs concurrent items in shared batches
- `celery_app`: the Celery application, bound to the Flask application
- `client_connection`: the requests of one connection, and what is left of their bodies
- `client_reader`: reads from clients within limits of size and time, and yields
- `connection_pool`: a small psycopg2 pool for single statements
- `database`: engine options, and the hot path's access to PostgreSQL
- `early_timeout`: a time limit that can be expired early
- `gunicorn_logger`: gunicorn's messages in promptly's log
- `gunicorn_worker`: gunicorn's gevent worker with a graceful shutdown
- `health_check`: asks one gateway for its health on its private socket
- `kombu_redis`: a fix for Celery's Redis transport when Redis goes away
- `listener`: holds the public socket, so that a new gateway takes over without a gap
- `logs`: structured JSON logs with keys redacted
- `memory`: gives the memory of large bodies back to the system
- `native_threads`: long computations off the event loop
- `newer_schema`: recognises a database that a newer release has migrated
- `pool_session`: SQLAlchemy's session, with a choice of the connection pool
- `psycopg_gevent`: cooperative psycopg2 waits with a deadline
- `readiness`: waits for a socket that stays registered with the event loop
- `recently_used`: a bounded mapping for limits counted in this process
- `redis_client`: the hot path's access to Redis, with a circuit breaker
- `request_metrics`: counts and durations of requests, over all web workers
- `send_timeout`: hangs up on clients that stop reading
- `shared_metrics`: counters and histograms that processes share
- `task_metrics`: counts and durations of a Celery worker's tasks, and their port
"""
