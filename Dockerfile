# syntax=docker/dockerfile:1

# The wheel, made with the tested version of the build tool.
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY constraints/run.txt constraints/
RUN python -m venv /opt/assetwatch && pip install -c constraints/run.txt hatchling
COPY pyproject.toml README.md LICENSE ./
COPY internal/ internal/
COPY proto/ proto/
COPY generated/ generated/
COPY src/ src/
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /build/dist . \
 && for wheel in /build/dist/*.whl; do /opt/assetwatch/bin/pip install -c constraints/run.txt "${wheel}[otlp]"; done \
 && /opt/assetwatch/bin/pip uninstall --yes pip

# What runs: Python, the environment made above, and nothing that builds.
FROM python:3.11-slim
ENV PATH=/opt/assetwatch/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/assetwatch /opt/assetwatch
RUN install -d -o 10001 -g 10001 /var/lib/assetwatch
WORKDIR /var/lib/assetwatch
VOLUME /var/lib/assetwatch
USER 10001:10001
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["assetwatch", "health"]
ENTRYPOINT ["assetwatch"]
CMD ["serve", "--config", "/etc/assetwatch/assetwatch.yaml"]
