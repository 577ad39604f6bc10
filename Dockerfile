# Glimpse behind gunicorn. docs/deploy.md tells how to build and run it.
FROM python:3.13-slim

# light: onnxruntime; or torch, its CPU build.
ARG ENGINE=light
# Where pip finds CPU builds of torch: the address that pytorch.org shows for Linux, Pip and CPU.
ARG TORCH_INDEX=
# yes: what GLIMPSE_REPORTS needs.
ARG REPORTS=

ENV GLIMPSE_BIND=0.0.0.0:8000 \
    OMP_NUM_THREADS=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /srv/glimpse
COPY requirements-common.txt requirements-light.txt requirements-serve.txt requirements.lock ./
COPY requirements-reports.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock \
    && useradd --system --no-create-home --shell /usr/sbin/nologin glimpse
RUN case "$ENGINE" in \
        light) ;; \
        torch) \
            if [ -z "$TORCH_INDEX" ]; then \
                echo "torch: name its CPU builds by --build-arg TORCH_INDEX=ADDRESS, as" \
                    "pytorch.org/get-started/locally shows it, or take the light engine by" \
                    "--build-arg ENGINE=light" >&2 ; \
                exit 1 ; \
            fi ; \
            pip install --no-cache-dir --index-url "$TORCH_INDEX" torch ;; \
        *) echo "ENGINE is '$ENGINE'; it must be torch or light" >&2 ; exit 1 ;; \
    esac
RUN test -z "$REPORTS" || pip install --no-cache-dir -r requirements-reports.txt

COPY app app
COPY model_store model_store
COPY reports reports
COPY static static
COPY tasks tasks
COPY templates templates
COPY LICENSE NOTICE gunicorn.conf.py wsgi.py ./
RUN python -m app check

USER glimpse
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["gunicorn", "wsgi:app"]
