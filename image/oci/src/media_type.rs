//! Media types, OCI's and Docker's (`application/…`), as found in manifests and registries.

/// OCI index of manifests.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer: an uncompressed tar.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer: a tar compressed with gzip.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer: a tar compressed with zstd.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's index of manifests.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's layer: an uncompressed tar.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker's layer: a tar compressed with gzip.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker's layer: a tar compressed with zstd.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// How the bytes of a layer blob are packed around its tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The tar itself.
    None,
    /// RFC 1952, possibly of several members.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Whose media types a manifest and what it names are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MediaTypes {
    /// OCI's.
    #[default]
    Oci,
    /// Docker's, which know no annotations.
    Docker,
}

impl MediaTypes {
    /// Whose media type of a manifest, an index or a config this is; OCI's where it is none of Docker's.
    pub fn of(media_type: &str) -> Self {
        match media_type {
            DOCKER_INDEX | DOCKER_MANIFEST | DOCKER_CONFIG => Self::Docker,
            _ => Self::Oci,
        }
    }

    /// That of an index.
    pub fn index(self) -> &'static str {
        match self {
            Self::Oci => INDEX,
            Self::Docker => DOCKER_INDEX,
        }
    }

    /// That of a manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Oci => MANIFEST,
            Self::Docker => DOCKER_MANIFEST,
        }
    }

    /// That of a config.
    pub fn config(self) -> &'static str {
        match self {
            Self::Oci => CONFIG,
            Self::Docker => DOCKER_CONFIG,
        }
    }

    /// That of a layer.
    pub fn layer(self, compression: Compression) -> &'static str {
        match (self, compression) {
            (Self::Oci, Compression::None) => LAYER,
            (Self::Oci, Compression::Gzip) => LAYER_GZIP,
            (Self::Oci, Compression::Zstd) => LAYER_ZSTD,
            (Self::Docker, Compression::None) => DOCKER_LAYER,
            (Self::Docker, Compression::Gzip) => DOCKER_LAYER_GZIP,
            (Self::Docker, Compression::Zstd) => DOCKER_LAYER_ZSTD,
        }
    }
}

/// The compression a layer's media type names, `None` if it is no layer type known here.
pub fn layer_compression(media_type: &str) -> Option<Compression> {
    match media_type {
        LAYER | DOCKER_LAYER => Some(Compression::None),
        LAYER_GZIP | DOCKER_LAYER_GZIP => Some(Compression::Gzip),
        LAYER_ZSTD | DOCKER_LAYER_ZSTD => Some(Compression::Zstd),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_media_type_is_known_again() {
        let packed = [Compression::None, Compression::Gzip, Compression::Zstd];
        for types in [MediaTypes::Oci, MediaTypes::Docker] {
            for own in [types.index(), types.manifest(), types.config()] {
                assert_eq!(MediaTypes::of(own), types, "{own}");
            }
            for compression in packed {
                let layer = types.layer(compression);
                assert_eq!(layer_compression(layer), Some(compression), "{layer}");
            }
        }
    }
}
