# Two targets: `cpu`, the last and so the default, and `cuda` with vLLM and training on a GPU.
#   docker build -t playground .
#   docker build -t playground-cuda --target cuda .
# Both run as user 1000 on port 7860 and keep all state in /data; docs/deploy.md has how to run them.

FROM python:3.11-slim-bookworm AS venv-cpu
WORKDIR /app
# uv knows where PyTorch's CPU builds lie; an unpinned index would bring several GB of CUDA.
RUN python -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
COPY requirements.txt ./
ARG TORCH_BACKEND=cpu
RUN /opt/uv/bin/uv venv /opt/venv \
 && /opt/uv/bin/uv pip install --no-cache --python /opt/venv ${TORCH_BACKEND:+--torch-backend=$TORCH_BACKEND} -r requirements.txt

FROM python:3.11-slim-bookworm AS venv-cuda
WORKDIR /app
RUN python -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
COPY requirements.txt requirements-vllm.txt ./
RUN /opt/uv/bin/uv venv /opt/venv && /opt/uv/bin/uv pip install --no-cache --python /opt/venv -r requirements.txt
# At the place where it will stand: a virtual environment cannot be moved.
RUN /opt/uv/bin/uv venv /app/.venv-vllm \
 && /opt/uv/bin/uv pip install --no-cache --python /app/.venv-vllm -r requirements-vllm.txt \
 && echo cuda > /app/.venv-vllm/.vllm-ready

FROM python:3.11-slim-bookworm AS app
# Spaces run containers as user 1000.
RUN useradd --create-home --uid 1000 app && mkdir -p /data && chown app /data
WORKDIR /app
COPY app.py LICENSE README.md README.ja.md SECURITY.md ./
COPY playground/ ./playground/
COPY training/ ./training/
COPY evaluation/ ./evaluation/
# A public profile unless told otherwise: whoever reaches the port gets a visitor's rights.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2 \
    HF_HOME=/data/hub \
    PLAYGROUND_HOME=/data \
    PLAYGROUND_HOST=0.0.0.0 \
    PLAYGROUND_PORT=7860 \
    PLAYGROUND_PROFILE=replay
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/', timeout=4)"]

FROM app AS cuda
# Triton compiles kernels at run time: a C compiler and Python's headers, which the image's Python has.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
COPY --from=venv-cuda /opt/venv /opt/venv
COPY --from=venv-cuda /app/.venv-vllm /app/.venv-vllm
ENV PLAYGROUND_PROFILE=gpu
USER app
CMD ["python", "app.py"]

FROM app AS cpu
COPY --from=venv-cpu /opt/venv /opt/venv
USER app
CMD ["python", "app.py"]
