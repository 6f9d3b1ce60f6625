# One image for the web processes, the Celery worker and beat; docker-compose.yml sets the command.
FROM python:3.12-slim AS packages

# gunicorn's C parser has no wheel; the compiler stays in this stage.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev

COPY requirements-production.txt .
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements-production.txt


FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PATH=/opt/venv/bin:$PATH

RUN useradd --system --uid 10001 --create-home promptly
WORKDIR /app

COPY --from=packages /opt/venv /opt/venv
COPY . .
RUN python -m compileall -q promptly migrations wsgi.py celeryconfig.py

USER promptly
EXPOSE 8503
CMD ["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
