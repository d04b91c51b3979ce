# CPU image; also what a Docker Space builds. A CUDA image with vLLM comes with the engine for it.
FROM python:3.11-slim AS build
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir "$(grep -o '^torch==[0-9.]*' requirements.txt)" \
 && /opt/venv/bin/pip install --no-cache-dir -r requirements.txt

FROM python:3.11-slim
# Spaces run containers as user 1000.
RUN useradd --create-home --uid 1000 app && mkdir -p /data && chown app /data
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY --chown=app . .
USER app
ENV PATH=/opt/venv/bin:$PATH \
    MALLOC_ARENA_MAX=2 \
    PLAYGROUND_HOME=/data \
    PLAYGROUND_HOST=0.0.0.0 \
    PLAYGROUND_PORT=7860
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/', timeout=4)"
CMD ["python", "app.py"]
