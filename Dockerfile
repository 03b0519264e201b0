# The image has the static binary, TLS certificates and an empty data directory.
#
#   docker build --build-arg VERSION=$(git describe --tags --always --dirty) -t tidemark .
#   docker run -p 127.0.0.1:8080:8080 -e HOST=0.0.0.0 -v tidemark:/data tidemark

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.buildVersion=${VERSION}" -o /out/tidemark ./cmd/tidemark
RUN mkdir /out/data

FROM scratch
ARG VERSION=unknown
LABEL org.opencontainers.image.title="tidemark" org.opencontainers.image.version="${VERSION}"
# TLS connections to Google's services need these certificates.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/tidemark /tidemark
# BACKEND=local keeps its files here: mount a volume. The user is a number, because scratch
# has no user names.
COPY --from=build --chown=65532:65532 /out/data /data
ENV DATA_DIR=/data
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/tidemark"]
CMD ["serve"]
