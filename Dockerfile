# One image for the web processes, the Celery worker and beat; docker-compose.yml says which it is.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --system --uid 10001 --create-home promptly
WORKDIR /app

COPY requirements-production.txt .
RUN pip install -r requirements-production.txt

COPY . .
RUN python -m compileall -q promptly migrations wsgi.py celeryconfig.py

USER promptly
EXPOSE 8503
CMD ["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
