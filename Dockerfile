# Base images by tag here; the release workflow pins both by digest (--build-arg) and records the digests in the provenance.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /build
# Dependencies in a layer of their own, built with empty sources: a change of ours does not build them again.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
 && touch src/lib.rs \
 && echo 'fn main() {}' >src/main.rs \
 && cargo build --locked --release --bin identityd
# What .dockerignore lets through is what the binary is made of. Its files are older than the empty ones were built, hence the touch.
COPY . .
RUN touch src/lib.rs src/main.rs \
 && cargo build --locked --release --bin identityd \
 && mv target/release/identityd /identityd

FROM ${RUNTIME_IMAGE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="identityd" \
      org.opencontainers.image.description="User and organization service of a multi-tenant platform" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /identityd /usr/local/bin/identityd
# The number, not the name: a cluster that demands runAsNonRoot can read it.
USER 65532
# All of a container's addresses, health and metrics apart from the API; whoever runs it decides which port is reached.
ENV IDENTITYD_HTTP__LISTEN=0.0.0.0:8080 IDENTITYD_OPS__LISTEN=0.0.0.0:9090
EXPOSE 8080 9090
ENTRYPOINT ["/usr/local/bin/identityd"]
CMD ["serve"]
