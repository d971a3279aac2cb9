//! Content types that documents may have, and how such a document begins.

/// A content type that is known by how its documents begin.
#[derive(Debug, PartialEq, Eq)]
pub struct ContentType {
    /// Name (RFC 6838).
    pub name: &'static str,
    /// Place of the signature.
    at: usize,
    /// The signature.
    signature: &'static [u8],
}

impl ContentType {
    /// Whether a document that begins with these bytes can be of the type. The beginning is a whole first chunk.
    pub(super) fn fits(&self, beginning: &[u8]) -> bool {
        let found = beginning.get(self.at..self.at + self.signature.len());
        found == Some(self.signature)
    }
}

/// Signatures: ISO 32000-1, ISO/IEC 10918-1, ISO/IEC 15948, TIFF 6.0, DICOM PS3.10, and ZIP for what is packed in it (OFD: GB/T 33190).
static CONTENT_TYPES: [ContentType; 8] = [
    signed("application/pdf", 0, b"%PDF-"),
    signed("image/jpeg", 0, b"\xff\xd8\xff"),
    signed("image/png", 0, b"\x89PNG\r\n\x1a\n"),
    signed("image/tiff", 0, b"II*\0"),
    signed("application/dicom", 128, b"DICM"),
    signed("application/zip", 0, b"PK\x03\x04"),
    signed("application/ofd", 0, b"PK\x03\x04"),
    signed("application/fhir+json", 0, b"{"),
];

const fn signed(name: &'static str, at: usize, signature: &'static [u8]) -> ContentType {
    ContentType {
        name,
        at,
        signature,
    }
}

/// A content type by its name; none where it is not one that can be verified.
pub fn content_type(name: &str) -> Option<&'static ContentType> {
    CONTENT_TYPES.iter().find(|known| known.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_known_by_how_it_begins() {
        let of = |name, beginning: &[u8]| content_type(name).unwrap().fits(beginning);
        assert!(of("application/pdf", b"%PDF-1.7\n"));
        assert!(!of("application/pdf", b"%PDF"));
        assert!(!of("image/png", b"\xff\xd8\xff\xe0"));
        let mut dicom = vec![0; 128];
        assert!(!of("application/dicom", &dicom));
        dicom.extend(b"DICM");
        assert!(of("application/dicom", &dicom));
        assert_eq!(content_type("text/html"), None);
    }
}
