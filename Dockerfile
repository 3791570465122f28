# The image of tagpin: one static binary, and the certificate authorities it trusts.
# `cargo xtask image --profile release` puts both into the context that this file is for:
#   docker build --file Dockerfile --tag tagpin target/image/rootfs
FROM scratch
COPY etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY tagpin /tagpin
USER 65532:65532
ENTRYPOINT ["/tagpin"]
