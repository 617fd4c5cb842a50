//! Every bound of the HTTP/1.1 readers, in one place.

/// Sizes in bytes unless the name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Whole head, the empty line included.
    pub head: usize,
    /// Request target.
    pub target: usize,
    /// One field line.
    pub field: usize,
    /// Number of fields.
    pub fields: usize,
}

/// Most fields that any limit may allow: the size of the parser's table.
pub const FIELDS_MAX: usize = 100;

/// Extension bytes of one chunk.
pub const CHUNK_EXTENSION_MAX: usize = 256;
/// Extension bytes of all chunks of a body.
pub const CHUNK_EXTENSIONS_MAX: usize = 4 * 1024;
/// Trailer section.
pub const TRAILERS_MAX: usize = 8 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self { head: 32 * 1024, target: 8 * 1024, field: 16 * 1024, fields: FIELDS_MAX }
    }
}
