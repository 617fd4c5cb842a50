# An image of a static binary and the authorities that servers over TLS are trusted by: no shell, no package, no user
# but a number. docs/packages.md says how it is run, and what io_uring needs.
#
#   docker build --tag corelane:0.1.0 .
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libc6-dev linux-libc-dev musl-tools patch \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG SOURCE_DATE_EPOCH=0
RUN scripts/package --only binary

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/package/stage/bin/corelane /corelane
USER 65532:65532
# Clients; the admin listener has 8001 and is for nobody outside.
EXPOSE 8000
# By the configuration that is mounted at /etc/corelane/corelane.toml.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/corelane", "status", "--healthy"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/corelane"]
CMD ["serve"]
