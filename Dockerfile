# One image for all of promptly's processes; docker-compose.yml sets the command of each.
FROM python:3.12-slim-bookworm AS build

# gunicorn's C parser has no wheel; the compiler stays in this stage.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev

# A package that is not the locked one fails the build.
COPY requirements-production.txt .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r requirements-production.txt

# .dockerignore admits what runs in production. Everyone may read it, whatever the umask of the
# checkout, and only root may change it.
COPY . /app
RUN chmod -R a+rX,go-w /app && python -m compileall -q /app


FROM python:3.12-slim-bookworm

ENV PYTHONUNBUFFERED=1 PATH=/opt/venv/bin:$PATH

# A new volume at /run/promptly takes its owner and mode from this directory.
RUN groupadd --system --gid 10001 promptly \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent promptly \
    && install --directory --owner=10001 --group=10001 --mode=0700 /run/promptly

COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app

WORKDIR /app
USER 10001:10001
EXPOSE 8503
CMD ["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
