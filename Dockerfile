# docker build --tag unlabel .
# docker run --rm --volume "$PWD:/work" unlabel demo
# The command runs in /work as user 1000; use --user "$(id -u):$(id -g)" if your own number is another.
FROM python:3.12-slim

COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install --no-cache-dir /src && rm -rf /src

RUN useradd --create-home --uid 1000 unlabel && mkdir /work && chown unlabel /work
USER unlabel
WORKDIR /work
ENTRYPOINT ["unlabel"]
CMD ["--help"]
