//! How much of what strangers send is too much.

/// What an image from elsewhere may have. What has more is refused in one sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a manifest or an index.
    pub manifest: u64,
    /// Bytes of a config.
    pub config: u64,
    /// Layers of an image; the kernel mounts no more than 500.
    pub layers: u64,
    /// Members of an archive of images.
    pub members: u64,
    /// Indices within each other.
    pub indices: u64,
    /// Bytes of all files of a layer.
    pub layer: u64,
    /// Members of a layer.
    pub files: u64,
    /// Directories above each other in a layer.
    pub depth: u64,
    /// How many times as long as it was a layer may become when it is unpacked, once it has become
    /// long enough to matter.
    pub ratio: u64,
}

impl Limits {
    /// No layer that unpacks to less is too well packed.
    pub const RATIO_FROM: u64 = 1 << 30;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest: 4 << 20,
            config: 8 << 20,
            layers: 500,
            members: 1 << 16,
            indices: 4,
            layer: 256 << 30,
            files: 20_000_000,
            depth: 1024,
            ratio: 2000,
        }
    }
}
